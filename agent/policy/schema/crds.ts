import { stringify } from 'yaml';
import { NODE_ENFORCEMENT } from './node-enforcement.js';
import { POLICIES } from './policies.js';
import type { ObjectShape } from './shape.js';

/** The CustomResourceDefinitions of Belay's kinds, from their shapes. `make crds` writes them to deploy/crds. */

const GROUP = 'security.belay.dev';
const VERSION = 'v1';

interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly description: string;
  readonly jsonPath: string;
  /** Above 0: only with `kubectl get -o wide`. */
  readonly priority?: number;
}

interface Kind {
  readonly kind: string;
  readonly plural: string;
  readonly shortName: string;
  readonly scope: 'Namespaced' | 'Cluster';
  readonly shape: ObjectShape;
  readonly columns: readonly Column[];
}

const AGE: Column = {
  name: 'Age',
  type: 'date',
  description: 'Since when it is there.',
  jsonPath: '.metadata.creationTimestamp',
};

const POLICY_COLUMNS: readonly Column[] = [
  { name: 'Mode', type: 'string', description: 'Enforce, or Audit for a dry run.', jsonPath: '.spec.mode' },
  {
    name: 'Action',
    type: 'string',
    description: 'What rules do that do not say otherwise.',
    jsonPath: '.spec.action',
  },
  {
    name: 'Accepted',
    type: 'string',
    description: 'Whether the agents can read and compile it.',
    jsonPath: '.status.conditions[?(@.type=="Accepted")].status',
  },
  {
    name: 'Enforced',
    type: 'string',
    description: 'Nodes that enforce it of nodes that it reaches.',
    jsonPath: '.status.enforced',
  },
  {
    name: 'Workloads',
    type: 'integer',
    description: 'How many workloads it reaches.',
    jsonPath: '.status.workloads',
    priority: 1,
  },
  {
    name: 'Reason',
    type: 'string',
    description: 'Why it is rejected or degraded.',
    jsonPath: '.status.reason',
  },
  AGE,
];

const NODE_COLUMNS: readonly Column[] = [
  { name: 'Agent', type: 'string', description: "The agent's version.", jsonPath: '.status.agentVersion' },
  { name: 'Kernel', type: 'string', description: "The kernel's release.", jsonPath: '.status.kernel' },
  {
    name: 'Policies',
    type: 'integer',
    description: 'How many policies the agent knows.',
    jsonPath: '.status.policies',
  },
  {
    name: 'Trouble',
    type: 'string',
    description: 'Why the first policy that is not enforced whole is not.',
    jsonPath: '.status.troubled[0].reason',
  },
  { name: 'Written', type: 'date', description: 'When it was last written.', jsonPath: '.status.time' },
  AGE,
];

export const KINDS_SERVED: readonly Kind[] = [
  {
    kind: 'WorkloadPolicy',
    plural: 'workloadpolicies',
    shortName: 'wp',
    scope: 'Namespaced',
    shape: POLICIES.namespace,
    columns: POLICY_COLUMNS,
  },
  {
    kind: 'ClusterWorkloadPolicy',
    plural: 'clusterworkloadpolicies',
    shortName: 'cwp',
    scope: 'Cluster',
    shape: POLICIES.cluster,
    columns: POLICY_COLUMNS,
  },
  {
    kind: 'HostPolicy',
    plural: 'hostpolicies',
    shortName: 'hp',
    scope: 'Cluster',
    shape: POLICIES.host,
    columns: POLICY_COLUMNS,
  },
  {
    kind: 'NodeEnforcement',
    plural: 'nodeenforcements',
    shortName: 'ne',
    scope: 'Cluster',
    shape: NODE_ENFORCEMENT,
    columns: NODE_COLUMNS,
  },
];

export function customResourceDefinition({ kind, plural, shortName, scope, shape, columns }: Kind) {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames: [shortName],
        categories: ['belay', 'security'],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: columns,
          schema: {
            // of metadata the API server wants to hear nothing: it has a schema of its own
            openAPIV3Schema: { ...shape, properties: { ...shape.properties, metadata: { type: 'object' } } },
          },
        },
      ],
    },
  };
}

/** The files of deploy/crds: name and text. */
export function definitionFiles(): ReadonlyMap<string, string> {
  return new Map(
    KINDS_SERVED.map((kind) => [
      `${GROUP}_${kind.plural}.yaml`,
      `# Generated from agent/policy/schema by \`make crds\`; not to be edited.\n${stringify(
        customResourceDefinition(kind),
        { lineWidth: 0, aliasDuplicateObjects: false },
      )}`,
    ]),
  );
}
