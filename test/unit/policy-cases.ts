/** Policies with faults and doubts, and where they are. */

/**
 * Each case is a policy text in which `@@` stands before every place that must be reported; the marks are taken out
 * before reading. The messages are given as parts of the expected ones, in the order of the places.
 */
export interface Case {
  readonly name: string;
  readonly text: string;
  readonly messages: readonly string[];
}

/** As written in the tables. */
type Row = readonly [name: string, text: string, ...messages: string[]];

function cases(rows: readonly Row[]): Case[] {
  return rows.map(([name, text, ...messages]) => ({ name, text, messages }));
}

export function unmark(marked: string): { text: string; places: string[] } {
  const places: string[] = [];
  let text = '';
  for (const [i, part] of marked.split('@@').entries()) {
    if (i > 0) {
      const lines = text.split('\n');
      places.push(`${lines.length}:${(lines.at(-1) ?? '').length + 1}`);
    }
    text += part;
  }
  return { text, places };
}

export const belay = (spec: string): string =>
  `apiVersion: security.belay.dev/v1
kind: WorkloadPolicy
metadata: {name: p, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
${spec}`;

const kubearmor = (spec: string): string =>
  belay(spec)
    .replace('security.belay.dev', 'security.kubearmor.com')
    .replace('WorkloadPolicy', 'KubeArmorPolicy');

const host = (spec: string): string => `apiVersion: security.belay.dev/v1
kind: HostPolicy
metadata: {name: p}
spec:
${spec}`;

const cluster = (spec: string): string =>
  belay(spec)
    .replace('kind: W', 'kind: ClusterW')
    .replace(', namespace: shop', '')
    .replace('  selector: {matchLabels: {app: web}}\n', '');

export const process = (item: string): string => belay(`  process:\n    matchPaths:\n    - ${item}\n`);
const file = (list: string, item: string): string => belay(`  file:\n    ${list}:\n    - ${item}\n`);
const egress = (item: string): string => belay(`  network:\n    egress:\n    - ${item}\n`);

const faultRows: readonly Row[] = [
  // The text
  ['an empty text', '@@', 'no policy in this file'],
  ['comments only', '@@# nothing\n', 'no policy'],
  ['a syntax error', `${process('path: /a')}  : @@]`, 'YAML syntax'],
  ['an unclosed bracket', 'kind: @@[WorkloadPolicy', 'YAML syntax'],
  ['a scalar', '@@hello', 'must be a mapping'],
  ['a list', '@@- a', 'must be a mapping'],
  [
    'an alias of nothing',
    belay('  action: @@*nowhere\n  process: {matchPaths: [{path: /a}]}'),
    'no anchor "&nowhere"',
  ],
  [
    'duplicate keys',
    belay('  process:\n    action: Block\n    matchPaths: [{path: /a}]\n    @@action: Audit\n'),
    'first on line 7',
  ],
  // The envelope
  ['another object', '@@apiVersion: v1\nmetadata: {name: x}\n', 'not a policy'],
  ['a Deployment', 'apiVersion: apps/v1\nkind: @@Deployment\n', 'a Deployment, not a policy'],
  [
    'a kind of KubeArmor’s that is not read',
    'apiVersion: security.kubearmor.com/v1\nkind: @@KubeArmorNetworkPolicy\n',
    'write a HostPolicy with network.egress',
  ],
  [
    'a mistyped kind',
    'apiVersion: security.belay.dev/v1\nkind: @@WorkloadPolcy\n',
    'did you mean "WorkloadPolicy"',
  ],
  [
    'a kind of another group',
    process('path: /a').replace('security.belay.dev/v1', '@@security.kubearmor.com/v1'),
    'write apiVersion: security.belay.dev/v1',
  ],
  ['no apiVersion', `@@${process('path: /a').replace(/^apiVersion.*\n/, '')}`, 'has no apiVersion'],
  ['no name', process('path: /a').replace('{name: p, ', '@@{'), 'metadata has no name'],
  ['no metadata', `@@${process('path: /a').replace(/metadata.*\n/, '')}`, 'has no metadata'],
  [
    'no spec',
    '@@apiVersion: security.belay.dev/v1\nkind: WorkloadPolicy\nmetadata: {name: p}\n',
    'has no spec',
  ],
  ['a name with capitals', process('path: /a').replace('name: p,', 'name: @@Web,'), 'not a valid name'],
  ['a long name', process('path: /a').replace('name: p,', `name: @@${'a'.repeat(254)},`), 'not a valid name'],
  ['a bad namespace', process('path: /a').replace('shop', '@@my.shop'), "not a namespace's name"],
  ['an unknown field on top', `${process('path: /a')}@@sepc: {}\n`, 'did you mean "spec"'],
  // Fields and types
  ['an unknown field in spec', belay('  @@proces: {matchPaths: [{path: /a}]}\n'), 'did you mean "process"'],
  [
    'an unknown field in a section',
    belay('  process:\n    @@matchPath: [{path: /a}]\n'),
    'did you mean "matchPaths"',
  ],
  [
    'an unknown field in a rule',
    file('matchDirectories', 'dir: /a/\n      @@recurive: true'),
    'did you mean "recursive"',
  ],
  [
    'a field without a near name',
    belay('  @@xyzzy: 1\n  process: {matchPaths: [{path: /a}]}\n'),
    'known here',
  ],
  ['a field of another section', process('path: /a\n      @@readOnly: true'), 'use it in a file rule'],
  ['text for a section', belay('  process: @@yes please\n'), 'must be a mapping'],
  ['a mapping for a list', belay('  process:\n    matchPaths: @@{path: /a}\n'), 'must be a list'],
  ['an empty item', belay('  process:\n    matchPaths:\n    - path: /a\n    -@@\n'), 'is empty'],
  ['a number for a path', process('path: @@42'), 'put it in quotes'],
  ['text for a flag', process('path: /a\n      ownerOnly: @@"true"'), 'must be true or false'],
  ['text for tags', process('path: /a\n      tags: @@T1059'), 'must be a list'],
  ['a number among tags', process('path: /a\n      tags: [a, @@1.5]'), 'put it in quotes'],
  ['a number for a message', process('path: /a\n      message: @@5'), 'must be text'],
  ['severity 0', process('path: /a\n      severity: @@0'), 'from 1 to 10'],
  ['severity 11', belay('  severity: @@11\n  process: {matchPaths: [{path: /a}]}\n'), 'from 1 to 10'],
  ['severity 1.5', process('path: /a\n      severity: @@1.5'), 'whole number'],
  ['severity in quotes', process('path: /a\n      severity: @@"5"'), 'in quotes; leave them out'],
  ['a lower-case action', process('path: /a\n      action: @@block'), 'did you mean "Block"'],
  ['an unknown action', process('path: /a\n      action: @@Explode'), 'write one of'],
  [
    'Kill in a KubeArmor policy',
    kubearmor('  action: @@Kill\n  process: {matchPaths: [{path: /a}]}'),
    'cannot be "Kill"',
  ],
  [
    'an unknown mode',
    belay('  mode: @@Enforcing\n  process: {matchPaths: [{path: /a}]}\n'),
    'did you mean "Enforce"',
  ],
  // Names of files
  ['a relative path', process('path: @@bin/sh'), 'not absolute'],
  ['an empty path', process('path: @@""'), 'not absolute'],
  ['a path with a slash at its end', process('path: @@/usr/bin/'), 'ends in a slash'],
  ['the root as a path', process('path: @@/'), 'root directory'],
  ['a path with a NUL', process('path: @@"/a\\0b"'), 'NUL'],
  ['a path that is too long', process(`path: @@/${'a'.repeat(4096)}`), '4096 bytes'],
  ['a directory without its slash', file('matchDirectories', 'dir: @@/etc'), 'write "/etc/"'],
  ['a relative directory', file('matchDirectories', 'dir: @@etc/'), 'not absolute'],
  ['a pattern with an open bracket', file('matchPatterns', 'pattern: @@"/a[b"'), 'not a pattern'],
  ['a relative pattern', file('matchPatterns', 'pattern: @@"*.key"'), 'write "/**/*.key"'],
  ['neither path nor execname', process('@@ownerOnly: true'), 'has no path or execname'],
  ['both path and execname', process('path: /a\n      @@execname: a'), 'both path and execname'],
  ['a path without a value', process('@@path:'), 'has no path'],
  ['a path as execname', process('execname: @@/bin/sh'), "not a file's name"],
  ['a relative source', process('path: /a\n      fromSource: [{path: @@sh}]'), 'not absolute'],
  ['an empty source', process('path: /a\n      fromSource: [@@{}]'), 'name the program'],
  [
    'a source with recursive and no dir',
    process('path: /a\n      fromSource: [{path: /b, @@recursive: true}]'),
    'goes with dir only',
  ],
  [
    'several faults of one rule, all in one run',
    process('path: @@a\n      severity: @@12\n      action: @@kill\n      @@owneronly: true'),
    'not absolute',
    'from 1 to 10',
    'did you mean "Kill"',
    'did you mean "ownerOnly"',
  ],
  // Network
  [
    'an unknown protocol',
    belay('  network:\n    matchProtocols: [{protocol: @@tpc}]\n'),
    'did you mean "tcp"',
  ],
  [
    'no protocol',
    belay('  network:\n    matchProtocols: [@@{fromSource: [{path: /a}]}]\n'),
    'has no protocol',
  ],
  ['an impossible address', egress('to: [{cidr: @@10.0.0.256/8}]'), 'not an address block'],
  ['an impossible prefix', egress('to: [{cidr: @@10.0.0.0/33}]'), 'from 0 to 32'],
  [
    'an IPv6 prefix that is too long',
    egress('to: [{cidr: "@@::/129"}]').replace('"@@', '@@"'),
    'from 0 to 128',
  ],
  ['an address without a prefix', egress('to: [{cidr: @@10.0.0.1}]'), 'write 10.0.0.1/32'],
  ['host bits', egress('to: [{cidr: @@10.1.2.3/8}]'), 'write 10.0.0.0/8'],
  ['host bits in IPv6', egress('to: [{cidr: @@2001:db8::1/32}]'), 'write 2001:db8::/32'],
  ['an exception outside', egress('to: [{cidr: 10.0.0.0/8, except: [@@11.0.0.0/16]}]'), 'lies outside'],
  ['a peer of nothing', egress('to: [@@{}]'), 'exactly one of'],
  ['a peer of two kinds', egress('to: [@@{cidr: 10.0.0.0/8, fqdn: a.b}]'), 'exactly one of'],
  ['an ipBlock', egress('to: [@@{@@ipBlock: {cidr: 10.0.0.0/8}}]'), 'exactly one of', 'write cidr'],
  ['from in egress', egress('@@from: [{cidr: 10.0.0.0/8}]'), 'under to'],
  ['port 0', egress('ports: [{port: @@0}]'), 'from 1 to 65535'],
  ['port 65536', egress('ports: [{port: @@65536}]'), 'from 1 to 65535'],
  ['a port by name', egress('ports: [{port: @@https}]'), "write the port's number"],
  ['a range backwards', egress('ports: [{port: 443, endPort: @@80}]'), 'before port 443'],
  ['an end without a beginning', egress('ports: [{@@endPort: 80}]'), 'without port'],
  ['a transport unknown', egress('ports: [{port: 1, protocol: @@QUIC}]'), 'TCP, UDP or SCTP'],
  ['a domain that is none', egress('to: [{fqdn: @@"http://a"}]'), 'not a domain name'],
  // The rest
  [
    'an unknown capability',
    belay('  capabilities: {matchCapabilities: [{capability: @@net_rwa}]}\n'),
    '"net_raw"',
  ],
  [
    'an unknown way out',
    belay('  escape: {matchOperations: [{operation: @@kernel_modul}]}\n'),
    'did you mean "kernel_module"',
  ],
  [
    'a way out without its operation',
    belay('  escape: {matchOperations: [@@{action: Block}]}\n'),
    'has no operation; write one of mount',
  ],
  ['drift that kills', belay('  process: {drift: @@Kill}\n'), 'write one of Audit, Block'],
  ['an unknown preset', belay('  presets: [{name: @@filelessexec}]\n'), 'did you mean "filelessExec"'],
  [
    'a preset that allows',
    belay('  presets: [{name: exec, action: @@Allow}]\n'),
    'action: Audit or action: Block',
  ],
  [
    'a preset that inherits Allow',
    belay('  action: Allow\n  presets: [@@{name: exec}]\n'),
    'cannot have the action',
  ],
  [
    'a syscall that is none',
    belay('  syscalls: {matchSyscalls: [{syscall: ["@@Un link"]}]}\n').replace('"@@', '@@"'),
    'not a system call',
  ],
  // Selectors
  [
    'a label a level too high',
    kubearmor('  process: {matchPaths: [{path: /a}]}').replace('{matchLabels: {app: web}}', '{@@app: web}'),
    'labels go under matchLabels',
  ],
  ['a number for a label', process('path: /a').replace('app: web', 'app: @@1'), 'put it in quotes'],
  [
    'nodeSelector in a workload policy',
    belay('  @@nodeSelector: {}\n  process: {matchPaths: [{path: /a}]}'),
    'selects by selector',
  ],
  [
    'a host policy without nodeSelector',
    host('  @@process: {matchPaths: [{path: /a}]}'),
    'has no nodeSelector',
  ],
  [
    'a bad host expression',
    host(
      '  nodeSelector: {matchLabels: {kubearmor.io/hostnamereg: @@"a("}}\n  file: {matchPaths: [{path: /a}]}',
    ),
    'not a regular expression',
  ],
  [
    'namespace in a namespaced kind',
    belay('  file: {matchPaths: [{path: /a}]}').replace(
      '{matchLabels: {app: web}}',
      '{matchExpressions: [{key: @@namespace, operator: In, values: [a]}]}',
    ),
    'belongs to cluster kinds',
  ],
  [
    'an unknown operator',
    cluster(
      '  selector: {matchExpressions: [{key: namespace, operator: @@Exists, values: [a]}]}\n  file: {matchPaths: [{path: /a}]}',
    ),
    'write one of In, NotIn',
  ],
  [
    'no operator',
    cluster(
      '  selector: {matchExpressions: [@@{key: namespace, values: [a]}]}\n  file: {matchPaths: [{path: /a}]}',
    ),
    'has no operator',
  ],
  [
    'a label that is no pair',
    cluster(
      '  selector: {matchExpressions: [{key: label, operator: In, values: [@@web]}]}\n  file: {matchPaths: [{path: /a}]}',
    ),
    'key=value',
  ],
  [
    'a bad container',
    belay('  containers: [@@"a b"]\n  file: {matchPaths: [{path: /a}]}'),
    "not a container's name",
  ],
  [
    'a real list for the container label',
    kubearmor('  file: {matchPaths: [{path: /a}]}').replace('app: web', 'kubearmor.io/container.name: @@[a]'),
    'in quotes',
  ],
];

const doubtRows: readonly Row[] = [
  [
    'a field without a value',
    belay('  @@severity:\n  process: {matchPaths: [{path: /a}]}\n'),
    'has no value',
  ],
  ['AppArmor text', kubearmor('  @@apparmor: "x"\n  process: {matchPaths: [{path: /a}]}\n'), 'no effect'],
  [
    'a system call of no kernel',
    belay('  syscalls:\n    matchSyscalls: [{syscall: [unlink, @@unlinc]}]\n'),
    'never matches',
  ],
  [
    'a system call by a path that it has not',
    belay('  syscalls:\n    matchPaths: [{path: /a, syscall: [unlink, @@getpid]}]\n'),
    'not reported by path',
  ],
  [
    'a look-up that kills',
    belay('  network:\n    matchDNSQueries: [{domain: google.com, action: @@Kill}]\n'),
    'does not kill',
  ],
  ['a dotted path', process('path: @@/a/../b'), 'never matches'],
  ['a doubled slash', process('path: @@/a//b'), 'read as "/a/b"'],
  [
    'a relative pattern in a KubeArmor policy',
    kubearmor('  process:\n    matchPatterns: [{pattern: @@mysqld}]\n'),
    'never matches',
  ],
  [
    "Belay's own field in a KubeArmor policy",
    kubearmor('  @@mode: Audit\n  process: {matchPaths: [{path: /a}]}\n'),
    "Belay's own",
  ],
  ['no rules', belay('  action: Block\n').replace('selector', '@@selector'), 'no rules'],
  ['no selector', cluster('  @@process: {matchPaths: [{path: /a}]}\n'), 'every workload of the cluster'],
  [
    'a namespace on a host policy',
    host('  nodeSelector: {}\n  process: {matchPaths: [{path: /a}]}').replace(
      'name: p',
      'name: p, namespace: @@x',
    ),
    'ignored',
  ],
  ['peers by name only', egress('to: [@@{fqdn: "*.example.com"}]'), 'is not enforced'],
  [
    'peers by name among others',
    egress('to: [{cidr: 10.0.0.0/8}, @@{fqdn: a.com}]'),
    'holds for its address blocks',
  ],
  [
    'an inactive policy',
    kubearmor('  @@status: Inactive\n  process: {matchPaths: [{path: /a}]}\n'),
    'Inactive',
  ],
];

/** Texts that hold an error. */
export const faults = cases(faultRows);

/** Texts that hold a warning and are valid. */
export const doubts = cases(doubtRows);
