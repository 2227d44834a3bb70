import type { AlertRecord, ExecRecord } from '../../agent/event/record.js';

const COMMON = {
  schema: 'belay.v1',
  time: '1700000000123456789',
  id: 'a-7',
  sequence: '7',
  node: 'node-1',
  cluster: 'prod',
  namespace: 'shop',
  pod: 'web-1',
  container: 'nginx',
  containerId: 'c0ffee',
  image: 'nginx:1',
  labels: { tier: 'front', app: 'web' },
  owner: { kind: 'Deployment', name: 'web' },
  process: {
    execId: '99',
    ...{ pid: 4321, pidInside: 12, tid: 4321, uid: 1000, gid: 1000 },
    ...{ program: '/usr/bin/bash', comm: 'bash', arguments: ['bash', '-c', 'id'], tty: false },
    parent: { pid: 4000, program: '/usr/sbin/nginx' },
  },
  count: '1',
} as const;

/** A denied exec, but for what is said otherwise. */
export const alertRecord = (fields: Partial<AlertRecord>): AlertRecord => ({
  ...COMMON,
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
  tags: ['MITRE_T1059', 'shell'],
  message: 'no shells',
  enforcer: 'BPF-LSM',
  ...fields,
});

export const execOf = (fields: Partial<ExecRecord>): ExecRecord => ({ ...COMMON, type: 'exec', ...fields });
