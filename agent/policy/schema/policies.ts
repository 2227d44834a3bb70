import { COMMON, CONTAINER_GLOB, labels, requirement, SECTIONS, type SelectorScope } from './rules.js';
import { integer, list, type ObjectShape, object, text, type Validation, type ValueOf } from './shape.js';
import { ACTIVITIES, MODES, PRESET_ACTIONS } from './words.js';

/** The specs of Belay's three kinds of policies, and what their status says. KubeArmor's kinds are read with the same. */

export const CONTAINER_LABEL = 'kubearmor.io/container.name';
/** What only sets the names in that label apart, as within the brackets of an expression: of RE2, CEL and JavaScript alike. */
export const CONTAINER_LIST_MARKS = String.raw`\t\n\r\x20\x22\x27\x2c\x5b\x5d`;
export const HOST_PATTERN_LABEL = 'kubearmor.io/hostnamereg';

/** Here, and nowhere further in, a default says the same as its absence: nobody is left to inherit from. */
const COMMON_OF_SPEC = {
  ...COMMON,
  action: { ...COMMON.action, default: 'Block' as const },
  severity: { ...COMMON.severity, default: 1 },
};

const MORE = {
  ...COMMON_OF_SPEC,
  mode: text('Audit is a dry run: verdicts are reported and not applied.', {
    enum: MODES,
    default: 'Enforce',
  }),
  status: text('An Inactive policy has no effect.', { enum: ACTIVITIES }),
  apparmor: text('Taken for the sake of policies that have it; it has no effect.', { maxLength: 65536 }),
  selinux: text('Taken for the sake of policies that have it; it has no effect.', { maxLength: 65536 }),
};

const CONTAINERS = {
  containers: list(
    'Names of containers, with "*" and "?"; init and ephemeral ones too. Without it, all containers.',
    text('A name or a glob.', { minLength: 1, maxLength: 253, pattern: CONTAINER_GLOB }),
    64,
  ),
};

const PRESETS_INHERIT: Validation = {
  rule: `!has(self.presets) || !has(self.action) || self.action in [${PRESET_ACTIONS.map((word) => `'${word}'`).join(', ')}] || self.presets.all(p, has(p.action))`,
  message: 'presets only Audit or Block; write an action on each, since the action of the spec is another',
};

const LISTED = `self.selector.matchLabels['${CONTAINER_LABEL}']`;

const ONE_CONTAINERS: Validation = {
  rule: [
    '!has(self.containers) || size(self.containers) == 0 || !has(self.selector) || !has(self.selector.matchLabels)',
    `!('${CONTAINER_LABEL}' in self.selector.matchLabels)`,
    // null, or nothing but brackets, commas, quotes and blanks, stands for all containers
    `type(${LISTED}) != string || !${LISTED}.matches(r'[^${CONTAINER_LIST_MARKS}]')`,
  ].join(' || '),
  message: `containers are named both by containers and by the label ${CONTAINER_LABEL}; keep one of the two`,
};

const podSelector = (scope: SelectorScope) =>
  object(`Which pods the policy reaches; all parts must hold. Without it, all of the ${scope}.`, {
    matchLabels: labels(
      `All of these labels of the pod. ${CONTAINER_LABEL} holds names of containers, like "[nginx, sidecar]".`,
    ),
    matchExpressions: list('All of these requirements.', requirement(scope), 64),
  });

const workloadSpec = (scope: SelectorScope) =>
  object(
    'What the policy wants, and of whom.',
    { ...SECTIONS, selector: podSelector(scope), ...CONTAINERS, ...MORE },
    [],
    [PRESETS_INHERIT, ONE_CONTAINERS],
  );

export const WORKLOAD_SPEC = workloadSpec('namespace');
export const CLUSTER_SPEC = workloadSpec('cluster');

export const HOST_SPEC = object(
  'What the policy wants, and of which nodes.',
  {
    ...SECTIONS,
    nodeSelector: object('Which nodes the policy reaches.', {
      matchLabels: labels(
        `All of these labels of the node; "*" is any value. ${HOST_PATTERN_LABEL} holds a pattern of the host's name.`,
      ),
    }),
    ...MORE,
  },
  ['nodeSelector'],
  [PRESETS_INHERIT],
);

export type WorkloadSpec = ValueOf<typeof WORKLOAD_SPEC>;
export type ClusterSpec = ValueOf<typeof CLUSTER_SPEC>;
export type HostSpec = ValueOf<typeof HOST_SPEC>;

const COUNT = [0, 1_000_000] as const;

/** As Kubernetes' own metav1.Condition. */
const CONDITION = object(
  'One aspect of the state.',
  {
    type: text('Which: Accepted, Enforced or Degraded.', {
      minLength: 1,
      maxLength: 316,
      pattern: '^[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?$',
    }),
    status: text('Whether it holds.', { enum: ['True', 'False', 'Unknown'] }),
    observedGeneration: integer('The metadata.generation that this is about.', 0),
    lastTransitionTime: text('When status changed last.', { format: 'date-time' }),
    reason: text('Why, in one word for programs.', {
      minLength: 1,
      maxLength: 1024,
      pattern: '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$',
    }),
    message: text('Why, for people.', { maxLength: 32768 }),
  },
  ['type', 'status', 'lastTransitionTime', 'reason', 'message'],
);

export const POLICY_STATUS = object('What became of the policy, as the nodes tell.', {
  observedGeneration: integer('The metadata.generation that this is about.', 0),
  conditions: list('Accepted, Enforced and Degraded.', CONDITION, 16, {
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': ['type'],
  }),
  enforced: text('Nodes that enforce it of nodes that it reaches, like 41/41.', { maxLength: 32 }),
  nodes: object('Nodes that the policy reaches.', {
    total: integer('All of them.', ...COUNT),
    enforced: integer('Those that enforce this generation whole.', ...COUNT),
    degraded: integer('Those that enforce a part of it, or an earlier generation.', ...COUNT),
  }),
  workloads: integer('How many workloads it reaches.', 0, 100_000_000),
  reason: text('Why it is rejected or degraded, in a few words; absent when all is well.', {
    maxLength: 1024,
  }),
  rules: list(
    'The rules that are rejected or not enforced; the first ones, when there are many.',
    object(
      'A rule, and what keeps it from being enforced.',
      {
        rule: text('Where it stands in the spec, like process.matchPaths[2].', { maxLength: 256 }),
        reason: text('What is wrong, and what to do.', { maxLength: 1024 }),
      },
      ['rule', 'reason'],
    ),
    32,
  ),
});

export type PolicyStatus = ValueOf<typeof POLICY_STATUS>;
export type Condition = ValueOf<typeof CONDITION>;

/** An object of a kind, as it is written in YAML. What metadata holds is Kubernetes' business. */
const whole = <S extends ObjectShape, T extends ObjectShape>(description: string, spec: S, status: T) =>
  object(
    description,
    {
      apiVersion: text('The version of the schema: security.belay.dev/v1.', {}),
      kind: text('The kind of the object.', {}),
      metadata: object('Name, namespace, labels.', {}),
      spec,
      status,
    },
    ['spec'],
  );

export const POLICIES = {
  namespace: whole(
    'What the pods of its namespace may do, enforced in the kernel.',
    WORKLOAD_SPEC,
    POLICY_STATUS,
  ),
  cluster: whole(
    'What the pods of any namespace may do, enforced in the kernel.',
    CLUSTER_SPEC,
    POLICY_STATUS,
  ),
  host: whole("What a node's own processes may do, enforced in the kernel.", HOST_SPEC, POLICY_STATUS),
} as const;
