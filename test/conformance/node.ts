import type { Posture } from '../../agent/policy/model.js';
import { armor, type Case, denied, POSTURE, passes, says } from './case.js';

/*
 * What is expected of a node: policies of the node itself, and what namespaces' annotations and the agent's settings say of pods.
 */

/** Something that is visible: a log, or that a program started. */
export interface ExpectedLog {
  readonly pod: string;
  readonly class?: 'Process' | 'File' | 'Network' | 'Capabilities';
}

export interface NodeCase extends Case {
  /** The agent's setting; nothing is visible without it. */
  readonly visibility?: string;
  /** The agent's setting; audit without it. */
  readonly posture?: Posture;
  readonly logs?: readonly ExpectedLog[];
  /** Nothing like this may be told. */
  readonly unlogged?: readonly ExpectedLog[];
}

export const HOST = 'host';

const onNodes = (name: string, severity: number, rules: string, action: 'Audit' | 'Block') =>
  armor(
    name,
    `severity: ${severity}, nodeSelector: {matchLabels: {kubernetes.io/hostname: "*"}}, ${rules}, action: ${action}`,
    'KubeArmorHostPolicy',
  );
const file = (path: string, more = '') => `file: {matchPaths: [{path: ${path}${more}}]}`;
const program = (path: string) => `process: {matchPaths: [{path: ${path}}]}`;

interface Row {
  readonly name: string;
  readonly rules: string;
  readonly action: 'Audit' | 'Block';
  readonly run: string;
  readonly resource: string | RegExp;
}

const row = ({ name, rules, action, run, resource }: Row): NodeCase => ({
  name,
  policies: [onNodes('node', 5, rules, action)],
  steps: [action === 'Block' ? denied(HOST, run) : passes(HOST, run)],
  alerts: [
    {
      ...{ policy: 'node', severity: 5, action, verdict: action === 'Block' ? 'Denied' : 'Passed' },
      resource,
    },
  ],
});

/** tests/nonk8s_env/host_policy; the case of a policy that is changed and taken away is in three parts. */
export const HOST_POLICIES: readonly NodeCase[] = [
  row({
    name: 'a program is blocked',
    ...{ rules: program('/usr/bin/ls'), action: 'Block', run: 'ls', resource: '/usr/bin/ls' },
  }),
  {
    name: 'a policy blocks curl',
    policies: [onNodes('changes', 5, program('/usr/bin/curl'), 'Block')],
    steps: [denied(HOST, 'curl --version'), passes(HOST, 'ls')],
  },
  {
    name: 'it is changed, and blocks ls instead',
    policies: [onNodes('changes', 5, program('/usr/bin/ls'), 'Block')],
    steps: [denied(HOST, 'ls'), passes(HOST, 'curl --version')],
  },
  {
    name: 'it is taken away, and blocks nothing',
    policies: [],
    steps: [passes(HOST, 'ls'), passes(HOST, 'curl --version')],
  },
  row({
    name: 'a pattern’s files are blocked',
    ...{ rules: 'file: {matchPatterns: [{pattern: /tmp/*}]}', action: 'Block' },
    ...{ run: 'touch /tmp/made', resource: '/tmp/made' },
  }),
  row({
    name: 'unlink is audited below a directory',
    rules: 'syscalls: {matchPaths: [{syscall: [unlink], path: /var/tmp/, recursive: true}]}',
    ...{ action: 'Audit', run: 'echo > /var/tmp/made; unlink /var/tmp/made', resource: '/var/tmp/made' },
  }),
  row({
    name: 'a file is audited to one program',
    rules: file('/etc/hosts', ', fromSource: [{path: /usr/bin/cat}]'),
    ...{ action: 'Audit', run: 'cat /etc/hosts', resource: '/etc/hosts' },
  }),
  row({
    name: 'udp is audited',
    rules: 'network: {matchProtocols: [{protocol: udp}]}',
    ...{ action: 'Audit', run: 'echo > /dev/udp/127.0.0.1/9', resource: /^udp / },
  }),
  row({
    name: 'a file is blocked',
    ...{ rules: file('/etc/passwd'), action: 'Block', run: 'cat /etc/passwd', resource: '/etc/passwd' },
  }),
  row({
    name: 'another program is blocked',
    rules: program('/usr/bin/curl'),
    ...{ action: 'Block', run: 'curl --version', resource: '/usr/bin/curl' },
  }),
  row({
    name: 'all below a directory is blocked',
    rules: 'file: {matchDirectories: [{dir: /etc/, recursive: true}]}',
    ...{ action: 'Block', run: 'cat /etc/hosts', resource: '/etc/hosts' },
  }),
  row({
    name: 'a program’s file is blocked',
    ...{ rules: file('/usr/bin/ls'), action: 'Block', run: 'ls', resource: '/usr/bin/ls' },
  }),
  row({
    name: 'programs anywhere below a directory are blocked',
    rules: 'process: {matchDirectories: [{dir: /usr/bin/, recursive: true}]}',
    ...{ action: 'Block', run: 'whoami', resource: /^\/usr\/bin\// },
  }),
  row({
    name: 'a pattern’s programs are blocked',
    rules: 'process: {matchPatterns: [{pattern: /usr/bin/apt*}]}',
    ...{ action: 'Block', run: 'apt --version', resource: '/usr/bin/apt' },
  }),
  {
    // KubeArmorNetworkPolicy is a kind that Belay does not read
    name: 'an address is blocked on all nodes, at one port',
    policies: [
      onNodes(
        'nsp',
        5,
        'network: {egress: [{to: [{cidr: 1.1.1.1/32}], ports: [{port: 53, protocol: UDP}]}]}',
        'Block',
      ).replace('security.kubearmor.com/v1\nkind: KubeArmor', 'security.belay.dev/v1\nkind: '),
    ],
    steps: [denied(HOST, 'echo > /dev/udp/1.1.1.1/53'), passes(HOST, 'echo > /dev/udp/127.0.0.1/53')],
    alerts: [{ policy: 'nsp', severity: 5, action: 'Block', verdict: 'Denied' }],
  },
];

/** Namespaces with a pod each, which is called after it, by their annotations. */
export const NAMESPACES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  everything: { 'kubearmor-visibility': 'process,file,network,capabilities' },
  network: { 'kubearmor-visibility': 'network' },
  nothing: { 'kubearmor-visibility': 'none' },
  plain: {},
  partly: { 'kubearmor-file-posture': 'audit' },
  fully: {
    'kubearmor-visibility': 'process,network',
    ...{ 'kubearmor-file-posture': 'audit', 'kubearmor-network-posture': 'audit' },
    'kubearmor-capabilities-posture': 'audit',
  },
  strict: { 'kubearmor-network-posture': 'block' },
};

/** A program, a file, a socket and a capability. */
const ACTS = 'touch /tmp/made; chown 1000 /tmp/made; curl -s --max-time 20 http://127.0.0.1/';
const CLASSES = ['Process', 'File', 'Network', 'Capabilities'] as const;

/** Of what is done in a pod, these classes are told and no others. */
function visible(
  name: string,
  pod: string,
  classes: readonly (typeof CLASSES)[number][],
  visibility?: string,
): NodeCase {
  return {
    name,
    ...{ policies: [], visibility, steps: [says(pod, ACTS, /It works/)] },
    logs: classes.map((each) => ({ pod, class: each })),
    unlogged: CLASSES.filter((each) => !classes.includes(each)).map((each) => ({ pod, class: each })),
  };
}

const allowed = (pod: string, rules: string) =>
  armor(
    'allowed',
    `${'selector: {matchLabels: {app: POD}}'.replace('POD', pod)}, ${rules}, action: Allow`,
    'KubeArmorPolicy',
    pod,
  );
/** And what programs need to run at all. */
const FEW = `file: {matchPaths: [{path: /etc/passwd}], matchDirectories: [${[
  '/bin/',
  '/usr/',
  '/lib/',
  '/lib64/',
  '/dev/',
  '/proc/',
]
  .map((dir) => `{dir: ${dir}, recursive: true}`)
  .join(', ')}]}`;
const CURLS_TCP = 'network: {matchProtocols: [{protocol: tcp, fromSource: [{path: /usr/bin/curl}]}]}';
const CURL = 'curl -s --max-time 20 http://127.0.0.1/';
const READS = 'cat /etc/hostname';

export const SETTINGS: readonly NodeCase[] = [
  visible('visibility: a namespace with all', 'everything', CLASSES),
  visible('visibility: a namespace with the network', 'network', ['Network']),
  visible('visibility: a namespace with none', 'nothing', []),
  visible('configmap: visibility follows the settings', 'plain', ['File'], 'file'),
  visible('configmap: an annotated namespace’s visibility stays', 'fully', ['Process', 'Network'], 'file'),
  ...(['audit', 'block'] as const).flatMap((posture): NodeCase[] => [
    {
      name: `configmap: the posture follows the settings: ${posture}`,
      ...{ posture, policies: [allowed('plain', FEW)] },
      steps: [posture === 'block' ? denied('plain', READS) : passes('plain', READS)],
      alerts: [
        {
          policy: POSTURE,
          pod: 'plain',
          verdict: posture === 'block' ? 'Denied' : 'Passed',
          resource: '/etc/hostname',
        },
      ],
    },
    {
      name: `configmap: a posture that is annotated stays, the settings being ${posture}`,
      ...{ posture, policies: [allowed('partly', FEW)] },
      steps: [passes('partly', READS)],
      alerts: [
        { policy: POSTURE, pod: 'partly', action: 'Audit', verdict: 'Passed', resource: '/etc/hostname' },
      ],
    },
    {
      name: `configmap: postures that all are annotated stay, the settings being ${posture}`,
      ...{ posture, policies: [allowed('fully', CURLS_TCP)] },
      steps: [says('fully', CURL, /It works/)],
    },
  ]),
  {
    name: 'networktests: only curl may use tcp, in a namespace whose posture is block',
    policies: [allowed('strict', CURLS_TCP)],
    steps: [
      says('strict', CURL, /It works/),
      says('strict', 'curl -sS --max-time 20 http://google.com/', /Could not resolve/),
    ],
    alerts: [{ policy: POSTURE, action: 'Block', verdict: 'Denied', pod: 'strict', resource: /^udp / }],
  },
];
