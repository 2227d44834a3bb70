import { integer, list, map, object, text, type ValueOf } from './shape.js';

/**
 * What one node enforces: a small object per node, named like it, that its agent writes on change.
 *
 * It lists only policies that reach a workload of the node: a policy that reaches none there changes no object. Of
 * each that is enforced whole it says no more than that, in 48 bytes; of the others, why not, in up to 1.6 KB. So 500
 * policies make 24 KB, all of it included, and it never grows beyond 340 KiB.
 */

const TROUBLED = object(
  'A policy that reaches this node and is not enforced whole.',
  {
    uid: text('metadata.uid of the policy.', { maxLength: 64 }),
    kind: text('Its kind.', { maxLength: 63 }),
    namespace: text('Its namespace, if it has one.', { maxLength: 63 }),
    name: text('Its name.', { maxLength: 253 }),
    observedGeneration: integer('Its metadata.generation that this is about.', 0),
    state: text(
      'Rejected: nothing of this generation holds, and the last good one stays. Degraded: it holds but for what the reason says.',
      { enum: ['Rejected', 'Degraded'] },
    ),
    workloads: integer('How many workloads of this node it reaches.', 0, 1_000_000),
    rule: text('The first rule concerned, like process.matchPaths[2].', { maxLength: 256 }),
    reason: text('What is wrong, and what to do.', { maxLength: 1024 }),
  },
  ['uid', 'kind', 'name', 'observedGeneration', 'state', 'workloads', 'reason'],
);

/** How many policies of a node can be told of as enforced, and as troubled with their reasons. */
export const MAX_ENFORCED = 5000;
export const MAX_TROUBLED = 64;

const ENFORCED = '^[0-9]{1,18}:[0-9]{1,9}$';

export const NODE_STATUS = object('What the node enforces, as its agent tells.', {
  node: text('The name of the node.', { maxLength: 253 }),
  agentVersion: text('The version of the agent.', { maxLength: 64 }),
  kernel: text('The release of the kernel.', { maxLength: 128 }),
  schemaVersion: text('The version of the tables in the kernel.', { maxLength: 64 }),
  absentHooks: list(
    'Hooks that this kernel lacks; rules that need them are not enforced here.',
    text('The name of a hook.', { maxLength: 64 }),
    64,
  ),
  generation: integer('How many times the tables were published since the agent started.', 0),
  time: text('When this was last written.', { format: 'date-time' }),
  policies: integer(
    'How many policies the agent knows, those included that reach nothing here.',
    0,
    1_000_000,
  ),
  enforced: map(
    'The policies that reach a workload of this node and are enforced whole: by metadata.uid, the generation and how many workloads, like "7:12".',
    text('GENERATION:WORKLOADS', { maxLength: 28, pattern: ENFORCED }),
    MAX_ENFORCED,
    // one owner writes it whole: managedFields then has no entry for each
    { 'x-kubernetes-map-type': 'atomic' },
  ),
  troubled: list('The policies that reach this node and are not enforced whole.', TROUBLED, MAX_TROUBLED, {
    'x-kubernetes-list-type': 'atomic',
  }),
  untold: integer('How many more policies found no room in enforced and troubled.', 0, 1_000_000),
});

export type NodeEnforcementStatus = ValueOf<typeof NODE_STATUS>;
export type TroubledPolicy = ValueOf<typeof TROUBLED>;

/** A value of `enforced`. */
export interface EnforcedPolicy {
  readonly generation: number;
  readonly workloads: number;
}

export function writeEnforced({ generation, workloads }: EnforcedPolicy): string {
  return `${generation}:${workloads}`;
}

/** @returns undefined for what `writeEnforced` never writes */
export function readEnforced(written: string): EnforcedPolicy | undefined {
  if (!new RegExp(ENFORCED).test(written)) return undefined;
  const [generation = '', workloads = ''] = written.split(':');
  return { generation: Number(generation), workloads: Number(workloads) };
}

export const NODE_ENFORCEMENT = object('What a node enforces; written by its agent.', {
  apiVersion: text('The version of the schema: security.belay.dev/v1.', {}),
  kind: text('NodeEnforcement.', {}),
  metadata: object('The name is that of the node.', {}),
  status: NODE_STATUS,
});
