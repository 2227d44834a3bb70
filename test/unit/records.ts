import type {
  AlertRecord,
  BelayRecord,
  ExecRecord,
  GapRecord,
  LogRecord,
  ThrottleRecord,
} from '../../agent/event/record.js';

/** Records of every type, for tests of what is done with them. */
const HEAD = {
  schema: 'belay.v1',
  time: '1700000000123456789',
  id: '0a1b2c3d4e5f-7',
  sequence: '7',
  node: 'node-1',
} as const;

const WHOSE = { namespace: 'shop', pod: 'web-1', container: 'nginx' } as const;

const WHOLE = {
  ...WHOSE,
  cluster: 'prod',
  containerId: 'c0ffee',
  image: 'nginx:1',
  labels: { 'app.kubernetes.io/name': 'web', tier: 'front' },
  owner: { kind: 'Deployment', name: 'web' },
  process: {
    execId: '99',
    ...{ pid: 4321, pidInside: 12, tid: 4321, uid: 1000, gid: 1000 },
    ...{ program: '/usr/bin/bash', comm: 'bash', arguments: ['bash', '-c', 'id'] },
    ...{ cwd: '/srv', tty: 'pts0', loginUid: 1000, capabilities: '00000000a80425fb' },
    namespaces: { mnt: 4026532201, pid: 4026532204, net: 4026532207, user: 4026531837 },
    parent: { pid: 4000, program: '/usr/sbin/nginx' },
    ancestors: [{ pid: 3990, comm: 'entrypoint.sh' }],
  },
  count: '1',
} as const;

export const alertOf = (fields: Partial<AlertRecord> = {}): AlertRecord => ({
  ...HEAD,
  ...WHOLE,
  type: 'alert',
  class: 'Process',
  operation: 'exec',
  object: { path: '/usr/bin/id' },
  policy: 'no-shells',
  policyNamespace: 'shop',
  rule: 'process.matchPaths[0]',
  ruleId: 6,
  generation: 3,
  action: 'Block',
  verdict: 'Denied',
  dryRun: false,
  severity: 7,
  tags: ['MITRE_T1059.004', 'MITRE_execution', 'shell'],
  message: 'no shells',
  enforcer: 'BPF-LSM',
  ...fields,
});

export const execOf = (fields: Partial<ExecRecord> = {}): ExecRecord => ({
  ...HEAD,
  ...WHOLE,
  type: 'exec',
  ...fields,
});

export const logOf = (fields: Partial<LogRecord> = {}): LogRecord => ({
  ...HEAD,
  ...WHOLE,
  type: 'log',
  class: 'File',
  operation: 'open',
  object: { path: '/etc/hosts', access: 'read' },
  ...fields,
});

const ROOT = {
  ...{ uid: 0, gid: 0, effectiveUid: 0, effectiveGid: 0, savedUid: 0, savedGid: 0 },
  ...{ permitted: '000001ffffffffff', effective: '000001ffffffffff' },
} as const;

/** A log of each kind. */
export const LOGS: readonly (readonly [string, LogRecord])[] = [
  ['a file that is visible', logOf()],
  [
    'a connection that is visible',
    logOf({
      class: 'Network',
      operation: 'connect',
      object: { socket: 'tcp', protocol: 'tcp', address: '10.0.0.7', port: 443 },
    }),
  ],
  [
    'a capability that is visible',
    logOf({ class: 'Capabilities', operation: 'capable', object: { capability: 'chown' } }),
  ],
  ['a fork', logOf({ class: 'Process', operation: 'fork', object: { pid: 4322, pidInside: 13 } })],
  ['an exit', logOf({ class: 'Process', operation: 'exit', object: { exitCode: 3 } })],
  ['an end by a signal', logOf({ class: 'Process', operation: 'exit', object: { exitSignal: 9 } })],
  [
    'credentials that change',
    logOf({
      class: 'Process',
      operation: 'setuid',
      object: { before: ROOT, after: { ...ROOT, uid: 33, effectiveUid: 33, savedUid: 33 } },
    }),
  ],
  [
    'capabilities that change',
    logOf({
      class: 'Process',
      operation: 'capset',
      object: { before: ROOT, after: { ...ROOT, effective: '0000000000000000' } },
    }),
  ],
];

export const gapOf = (fields: Partial<GapRecord> = {}): GapRecord => ({
  ...HEAD,
  ...WHOSE,
  type: 'gap',
  ring: 'denials',
  lost: '12',
  ...fields,
});

export const throttleOf = (fields: Partial<ThrottleRecord> = {}): ThrottleRecord => {
  const { process: _, count: __, ...whose } = WHOLE;
  return { ...HEAD, ...whose, type: 'throttle', maxAlertsPerSecond: 2, throttleSeconds: 60, ...fields };
};

export const ALL_TYPES: readonly (readonly [string, BelayRecord])[] = [
  ['a denied exec', alertOf()],
  [
    'a denied file',
    alertOf({ class: 'File', operation: 'unlink', object: { path: '/etc/passwd', access: 'write' } }),
  ],
  [
    'an audited connection',
    alertOf({
      class: 'Network',
      operation: 'connect',
      object: { socket: 'tcp', protocol: 'tcp', address: '10.0.0.7', port: 443 },
      verdict: 'Passed',
      action: 'Audit',
    }),
  ],
  [
    'a connection by IPv6',
    alertOf({
      class: 'Network',
      operation: 'connect',
      object: { socket: 'udp', protocol: 'udp', address: '2001:db8::7', port: 53 },
    }),
  ],
  [
    'a socket',
    alertOf({ class: 'Network', operation: 'socket', object: { socket: 'raw', protocol: 'icmp' } }),
  ],
  [
    'a capability',
    alertOf({ class: 'Capabilities', operation: 'capable', object: { capability: 'net_raw' } }),
  ],
  ['a packet without a process', alertOf({ process: undefined, class: 'Network', operation: 'accept' })],
  [
    'an object without a name',
    alertOf({ object: { path: 'memfd:x', unnamed: true }, policy: '', rule: 'unnamed' }),
  ],
  ['a started program', execOf()],
  ...LOGS,
  ['a gap', gapOf()],
  ['a gap of nobody in particular', gapOf({ namespace: '', pod: '', container: '' })],
  ['a container with too many alerts', throttleOf()],
  ['a failure', { ...HEAD, type: 'failure', failure: 'name-long', count: '2' }],
  ['an unknown pod', { ...HEAD, type: 'unknown-pod', podUid: 'u-1', cgroup: '/kubepods/podu-1' }],
];

/** A path that steers a terminal or a line splitter, and as JSON is to have it. */
export const STEERING = '/tmp/\x7f\u009b2J\u202egnp\u2028';
export const STEERED = '/tmp/\\u007f\\u009b2J\\u202egnp\\u2028';

/** What an attacker would put into an argument, a file's name, a label. */
export const HOSTILE = [
  'two\nlines\r\nof log',
  '\u001b[31mred\u001b]0;title\u0007\u009b2J',
  'a|b\\|c=d e=f\\',
  '"quoted", {"json": 1}, <134>1 - - - - - -',
  '\u202egnp.exe\u2066\u2028\u2029\ufeff',
  Buffer.from([0x66, 0xff, 0xfe, 0x80, 0x6f]).toString('utf8'),
  'x=1 act=Passed outcome=success',
  'A'.repeat(64 << 10),
] as const;

/** The record with each hostile text everywhere that others than us have a say. */
export const hostileOf = (text: string): AlertRecord =>
  alertOf({
    class: 'File',
    operation: 'open',
    pod: text,
    labels: { [text]: text },
    image: text,
    process: {
      ...WHOLE.process,
      program: text,
      comm: text,
      arguments: ['sh', text, text],
      cwd: text,
      parent: { pid: 1, program: text },
      ancestors: [{ pid: 1, comm: text }],
    },
    object: { path: text },
    policy: text,
    message: text,
    tags: [text],
  });

/** A policy object, but for its UID and generation. */
export const POLICY_REF = {
  apiVersion: 'security.belay.dev/v1',
  kind: 'WorkloadPolicy',
  namespace: 'shop',
  name: 'web',
} as const;
