/** Random policies and requests over few names, so that they often meet. */
import fc from 'fast-check';
import { enums } from '../../agent/policy/layout.js';
import type { Cidr, Matcher, NameRule, Policy, PortRange, Postures, Rule } from '../../agent/policy/model.js';
import type { Request } from './request.js';

const at = { file: 'p.yaml', line: 1, column: 1 };
const component = fc.constantFrom('a', 'b', 'ab', 'ba', '.a', 'é');
const components = fc.array(component, { minLength: 1, maxLength: 4 });
const path = components.map((parts) => `/${parts.join('/')}`);
const piece = fc.oneof(
  { weight: 3, arbitrary: component },
  { weight: 4, arbitrary: fc.constantFrom('*', '**', '?', '[ab]', '[!a]', '[a-é]', 'a*', '*b', '?*', '\\*') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('{a,b}', '{a,*}', '{,a}b', '{a/b,{b,?}a}', '{**,a}', 'a**', '{a/,}'),
  },
);
const globPart = fc.array(piece, { minLength: 1, maxLength: 2 }).map((pieces) => pieces.join(''));
const slashed = fc.array(globPart, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join('/')}`);
export const pattern = fc.oneof({ weight: 4, arbitrary: slashed }, { weight: 1, arbitrary: globPart });

const matcher: fc.Arbitrary<Matcher> = fc.oneof(
  path.map((each) => ({ kind: 'path', path: each }) as const),
  component.map((name) => ({ kind: 'execname', name }) as const),
  pattern.map((each) => ({ kind: 'pattern', pattern: each }) as const),
  fc
    .tuple(fc.oneof(path, fc.constant('')), fc.boolean())
    .map(([dir, recursive]) => ({ kind: 'directory', dir: `${dir}/`, recursive }) as const),
);

const action = fc.constantFrom('Allow', 'Audit', 'Block', 'Kill', 'KillContainer');
const base = {
  id: fc.constant(''),
  at: fc.constant(at),
  action,
  severity: fc.constant(1),
  tags: fc.constant([]),
  message: fc.constant(''),
  sources: fc.oneof(
    { weight: 2, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(matcher, { maxLength: 2 }) },
  ),
};
const rarely = fc.integer({ min: 0, max: 4 }).map((n) => n === 0);
const argument = fc.constantFrom('-a', '-b', '', 'é');

const nameRule: fc.Arbitrary<NameRule> = fc
  .record({
    ...base,
    class: fc.constantFrom('process', 'file'),
    match: matcher,
    ownerOnly: rarely,
    readOnly: rarely,
    noTty: rarely,
    allowedArgs: fc.option(fc.array(argument, { maxLength: 3 }), { nil: undefined, freq: 4 }),
  })
  .map(({ allowedArgs, ...rule }) => {
    if (rule.class === 'file') return { ...rule, class: 'file' as const };
    const process = { ...rule, class: 'process' as const, readOnly: false };
    return allowedArgs === undefined ? process : { ...process, allowedArgs };
  });

const cidr = (width: number): fc.Arbitrary<Cidr> =>
  fc
    .tuple(
      fc.array(fc.constantFrom(0, 10, 128, 129, 255), { minLength: width, maxLength: width }),
      fc.constantFrom(0, 1, 7, 8, 9, 16, 23, 24, 31, 32),
    )
    .map(([bytes, prefix]) => ({
      prefix,
      bytes: bytes.map((byte, i) => byte & ~(0xff >> Math.max(0, Math.min(8, prefix - i * 8))) & 0xff),
    }));
const peer = fc
  .constantFrom(4, 16)
  .chain((width) => fc.record({ cidr: cidr(width), except: fc.array(cidr(width), { maxLength: 2 }) }));
const somePort = fc.constantFrom(0, 1, 79, 80, 255, 256, 443, 511, 8080, 65535);
const ports: fc.Arbitrary<PortRange> = fc
  .record({ protocol: fc.constantFrom('TCP', 'UDP', 'SCTP', undefined), a: somePort, b: somePort })
  .map(({ protocol, a, b }) => {
    const range = { from: Math.min(a, b), to: Math.max(a, b) };
    return protocol === undefined ? range : { ...range, protocol };
  });

const networkRule: fc.Arbitrary<Rule> = fc.oneof(
  fc.record({
    ...base,
    class: fc.constant('network' as const),
    kind: fc.constant('protocol' as const),
    protocol: fc.constantFrom(
      'tcp',
      'udp',
      'raw',
      'icmp',
      'icmpv6',
      'sctp',
      'stream',
      'dgram',
      'rdm',
      'seqpacket',
      'dccp',
      'packet',
      'all',
    ),
  }),
  fc.record({
    ...base,
    class: fc.constant('network' as const),
    kind: fc.constant('address' as const),
    direction: fc.constantFrom('egress', 'ingress'),
    peers: fc.array(peer, { maxLength: 2 }),
    ports: fc.array(ports, { maxLength: 2 }),
  }),
);

const label = fc.constantFrom('a', 'b', 'ab', 'ba');
export const domain = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'));

const domainRule: fc.Arbitrary<Rule> = fc.record({
  ...base,
  class: fc.constant('network' as const),
  kind: fc.constant('dns' as const),
  action: fc.constantFrom('Allow', 'Audit', 'Block'),
  domain,
  below: rarely,
});

const syscall = fc.constantFrom('unlink', 'mkdir', 'symlink', 'setxattr', 'mseal');

const syscallRule: fc.Arbitrary<Rule> = fc
  .record({
    ...base,
    class: fc.constant('syscalls' as const),
    action: fc.constant('Audit' as const),
    syscalls: fc.uniqueArray(syscall, { minLength: 1, maxLength: 2 }),
    match: fc.option(
      matcher.filter(({ kind }) => kind === 'path' || kind === 'directory'),
      { nil: undefined },
    ),
  })
  .map(({ match, ...rule }) => (match === undefined ? rule : { ...rule, match }));

const capabilityRule: fc.Arbitrary<Rule> = fc
  .record({ ...base, class: fc.constant('capabilities' as const), capability: fc.constantFrom(0, 13, 40) })
  .map((rule) => ({ ...rule, name: `cap${rule.capability}` }));

const escapeRule: fc.Arbitrary<Rule> = fc.record({
  ...base,
  class: fc.constant('escape' as const),
  operation: fc.constantFrom('mount', 'bpf', 'device_node'),
});

const presetRule: fc.Arbitrary<Rule> = fc
  .record({
    ...base,
    class: fc.constant('preset' as const),
    action: fc.constantFrom('Audit', 'Block'),
    preset: fc.constantFrom(
      'protectEnv',
      'filelessExec',
      'exec',
      'protectProc',
      'anonymousMapExec',
      'hardened',
      'drift',
    ),
  })
  .map(({ sources: _, ...rule }) => rule);

const rule: fc.Arbitrary<Rule> = fc.oneof(
  { weight: 8, arbitrary: nameRule },
  { weight: 5, arbitrary: networkRule },
  { weight: 2, arbitrary: domainRule },
  { weight: 2, arbitrary: syscallRule },
  { weight: 1, arbitrary: capabilityRule },
  { weight: 1, arbitrary: escapeRule },
  { weight: 1, arbitrary: presetRule },
);

export const policies: fc.Arbitrary<Policy[]> = fc
  .array(
    fc.record({
      mode: fc.oneof(
        { weight: 3, arbitrary: fc.constant('Enforce') },
        { weight: 1, arbitrary: fc.constant('Audit') },
      ),
      rules: fc.array(rule, { minLength: 1, maxLength: 8 }),
    }),
    { maxLength: 4 },
  )
  .map((all) =>
    all.map(({ mode, rules }, p) => ({
      apiVersion: 'security.belay.dev/v1',
      kind: 'WorkloadPolicy' as const,
      scope: 'namespace' as const,
      namespace: 'shop',
      name: `p${p}`,
      at,
      mode: mode as Policy['mode'],
      selector: { labels: new Map(), expressions: [], namespaces: [], containers: [] },
      rules: rules.map((each, r) => ({ ...each, id: `r${r}` }) as Rule),
    })),
  );

const posture = fc.constantFrom('audit', 'block');
export const postures: fc.Arbitrary<Postures> = fc.record({
  file: posture,
  network: posture,
  capabilities: posture,
});

const bytes = (text: string) => Buffer.from(text).toString('latin1');
/** Whole, and cut where a character is not. */
export const name = fc.oneof(
  { weight: 8, arbitrary: path.map(bytes) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('/', '/\xc3', '/a/\xa9', '/a/\xff', '/a/\n', '/\xe2\x82\xac/a', '/a/*'),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '/proc/1/environ',
      '/proc/self/environ',
      '/proc/12/task/3/environ',
      '/proc/1/maps',
    ),
  },
);

const address = fc
  .constantFrom(0, 4, 16)
  .chain((width) =>
    fc.array(fc.constantFrom(0, 1, 10, 127, 128, 129, 255), { minLength: width, maxLength: width }),
  );

export const request: fc.Arbitrary<Request> = fc
  .tuple(
    fc.record({
      programs: fc.array(name, { minLength: 1, maxLength: 2 }),
      parents: fc.array(name, { maxLength: 2 }),
    }),
    fc.record({
      isOwner: fc.boolean(),
      hasTty: fc.boolean(),
      isSelf: fc.boolean(),
      args: fc.array(argument.map(bytes), { maxLength: 2 }),
    }),
    fc.oneof(
      {
        weight: 8,
        arbitrary: fc.record({
          kind: fc.constant('file' as const),
          operation: fc.constantFrom('exec', 'map', 'read', 'write', 'load', 'move'),
          name: fc.option(name, { nil: undefined, freq: 9 }),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant('socket' as const),
          socket: fc.integer({ min: 0, max: enums.socket_kind.SOCKET_KIND_COUNT - 1 }),
        }),
      },
      {
        weight: 4,
        arbitrary: fc
          .record({
            kind: fc.constant('address' as const),
            direction: fc.constantFrom('egress', 'ingress'),
            address,
            protocol: fc.constantFrom(6, 17, 132, 1),
            port: somePort,
          })
          .map((each) => (each.address.length === 0 ? { ...each, direction: 'ingress' as const } : each)),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant('query' as const),
          domain: fc.oneof(
            { weight: 9, arbitrary: domain },
            { weight: 1, arbitrary: fc.constantFrom('', 'aa', 'a\xff.b') },
          ),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant('call' as const),
          syscall: syscall.filter((each) => each !== 'mseal'),
          path: fc.option(name, { nil: undefined }),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('capability' as const),
          capability: fc.constantFrom(0, 13, 40, 1),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('escape' as const),
          operation: fc.constantFrom('mount', 'bpf', 'device_node', 'chroot'),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('preset' as const),
          preset: fc.constantFrom('exec', 'anonymousMapExec', 'drift'),
        }),
      },
    ),
  )
  .map(([subject, facts, what]) => ({ subject, facts, ...what }) as Request);
