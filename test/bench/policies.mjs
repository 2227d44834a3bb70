/** Policies for benchmarks: `rules` rules of mixed kinds, of which none concerns what the benchmarks touch. */
const AT = { file: 'bench.yaml', line: 1, column: 1 };
const COMMON = { at: AT, action: 'Block', severity: 1, tags: [], message: '', sources: [] };
const NAME = { ...COMMON, ownerOnly: false, readOnly: false, noTty: false };
const DIRECTORIES = ['bin', 'lib', 'share', 'sbin', 'etc', 'data'];

function rule(i) {
  const app = `/opt/app${Math.floor(i / 50)}/${DIRECTORIES[i % DIRECTORIES.length]}`;
  const id = `rule[${i}]`;
  switch (i % 10) {
    case 0:
      return { ...NAME, id, class: 'file', match: { kind: 'directory', dir: `${app}/d${i}/`, recursive: true } };
    case 1:
      return { ...NAME, id, class: 'file', match: { kind: 'pattern', pattern: `${app}/*.key${i}` } };
    case 2:
      return { ...NAME, id, class: 'process', match: { kind: 'execname', name: `tool${i}` } };
    case 3:
      return {
        ...COMMON,
        id,
        class: 'network',
        kind: 'address',
        direction: 'egress',
        peers: [{ cidr: { bytes: [10, (i >> 8) & 255, i & 255, 0], prefix: 24 }, except: [] }],
        ports: [],
      };
    case 4:
      return { ...NAME, id, class: 'file', readOnly: true, match: { kind: 'path', path: `${app}/conf${i}` } };
    case 5:
      return {
        ...NAME,
        id,
        class: 'file',
        match: { kind: 'path', path: `${app}/secret${i}` },
        sources: [{ kind: 'path', path: `${app}/reader${i % 7}` }],
      };
    default:
      return { ...NAME, id, class: i % 2 ? 'process' : 'file', match: { kind: 'path', path: `${app}/name${i}` } };
  }
}

export function makePolicies(rules) {
  const each = 50;
  return Array.from({ length: Math.ceil(rules / each) }, (_, p) => ({
    apiVersion: 'security.belay.dev/v1',
    kind: 'WorkloadPolicy',
    scope: 'namespace',
    namespace: 'bench',
    name: `policy-${p}`,
    at: AT,
    mode: 'Enforce',
    selector: { labels: new Map(), expressions: [], namespaces: [], containers: [] },
    rules: Array.from({ length: Math.min(each, rules - p * each) }, (_, i) => rule(p * each + i)),
  }));
}

/** The same rules as YAML texts, one policy each, that select a tenth of the workloads (label group). */
export function makeTexts(rules) {
  return makePolicies(rules).map((policy, p) => {
    const lines = policy.rules.map(toYaml);
    const of = (section, list) =>
      lines.filter((l) => l.section === section && l.list === list).map((l) => `      - ${l.text}`);
    const section = (name, lists) => {
      const parts = lists.flatMap((list) => (of(name, list).length > 0 ? [`    ${list}:`, ...of(name, list)] : []));
      return parts.length > 0 ? [`  ${name}:`, ...parts] : [];
    };
    return [
      'apiVersion: security.belay.dev/v1',
      'kind: WorkloadPolicy',
      `metadata: {name: policy-${p}, namespace: bench}`,
      'spec:',
      `  selector: {matchLabels: {group: g${p % 10}}}`,
      ...section('process', ['matchPaths', 'matchDirectories', 'matchPatterns']),
      ...section('file', ['matchPaths', 'matchDirectories', 'matchPatterns']),
      ...section('network', ['egress']),
      '',
    ].join('\n');
  });
}

function toYaml(r) {
  if (r.kind === 'address') {
    const { bytes, prefix } = r.peers[0].cidr;
    return { section: 'network', list: 'egress', text: `{to: [{cidr: ${bytes.join('.')}/${prefix}}]}` };
  }
  const source = r.sources.length > 0 ? `, fromSource: [{path: ${r.sources[0].path}}]` : '';
  const readOnly = r.readOnly ? ', readOnly: true' : '';
  switch (r.match.kind) {
    case 'directory':
      return { section: r.class, list: 'matchDirectories', text: `{dir: ${r.match.dir}, recursive: true}` };
    case 'pattern':
      return { section: r.class, list: 'matchPatterns', text: `{pattern: "${r.match.pattern}"}` };
    case 'execname':
      return { section: r.class, list: 'matchPaths', text: `{execname: ${r.match.name}}` };
    default:
      return { section: r.class, list: 'matchPaths', text: `{path: ${r.match.path}${source}${readOnly}}` };
  }
}
