import { setTimeout as sleep } from 'node:timers/promises';
import { type KubernetesObject, KubernetesObjectApi, PatchStrategy } from '@kubernetes/client-node';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { NodeEnforcementStatus } from '../../agent/policy/schema/node-enforcement.js';
import type { PolicyStatus } from '../../agent/policy/schema/policies.js';
import { eventually } from '../kernel/harness.js';
import { Cluster, clusterPrograms, NODE } from './cluster.js';

/** Each run of pods has so many; a node of 3 GiB bears 200 that end at once, in some 25 minutes. */
const PODS = Number(process.env.BELAY_CLUSTER_PODS ?? 30);
const API_AWAY_S = Number(process.env.BELAY_API_AWAY_SECONDS ?? 300);
const NAMESPACES = 100;
const POLICIES = 1000;

const denies = (name: string, namespace: string, path: string) => ({
  apiVersion: 'security.belay.dev/v1',
  kind: 'WorkloadPolicy',
  metadata: { name, namespace },
  spec: { file: { matchPaths: [{ path }] } },
});
/** Exit status EACCES: its first act was denied. */
const DENIED = 13;
const first = { image: 'localhost/act:1', command: ['/first', '/secret'] };

describe.skipIf(clusterPrograms() === undefined)('a cluster in a storm', () => {
  let cluster: Cluster;
  let objects: KubernetesObjectApi;

  beforeAll(async () => {
    cluster = await Cluster.start();
    cluster.install();
    objects = KubernetesObjectApi.makeApiClient(cluster.kube);
    await cluster.agent.start(['--unknown-posture', 'block']);
  });
  afterAll(async () => {
    await cluster?.agent.stop();
    await cluster?.stop();
  });
  afterEach(async () => {
    await cluster.core.deleteCollectionNamespacedPod({ namespace: 'default' });
  });

  const apply = (object: ReturnType<typeof denies>, as = 'test') =>
    objects.patch(object, undefined, undefined, as, true, PatchStrategy.ServerSideApply);

  /** How reading a file in a pod's container ended: by `cat`, for what the API server tells of. */
  const reading = async (path: string, pod: string, namespace: string) => {
    const { status, output } = await cluster.exec(pod, ['cat', path], { namespace });
    return status === 0 ? 'read' : /Permission denied/.test(output) ? 'denied' : output;
  };
  const becomes = (how: 'read' | 'denied', path: string, pod: string, namespace: string) =>
    eventually(
      `${path} is ${how}`,
      async () => (await reading(path, pod, namespace)) === how || undefined,
      120_000,
    );

  /** Waits until the pods' first act is forbidden. */
  async function forbidden(): Promise<void> {
    await apply(denies('secret', 'default', '/secret'));
    await known('WorkloadPolicy', 'secret', 'default');
  }

  /** Of pods that were started in bursts of `burst`: how each one's first act ended; `refused` before it had one. */
  async function outcomes(prefix: string, burst: number, namespace = 'default'): Promise<string[]> {
    const names = Array.from({ length: PODS }, (_, i) => `${prefix}-${i}`);
    for (let i = 0; i < PODS; i += burst) {
      const some = names.slice(i, i + burst);
      await Promise.all(some.map((name) => cluster.create(name, { ...first, namespace })));
      for (const name of some) await cluster.ended(name, namespace);
    }
    return Promise.all(
      names.map(async (name) => {
        const main = (await cluster.ended(name, namespace)).get('main')?.state;
        const { exitCode, reason } = main?.terminated ?? {};
        return exitCode === undefined || reason === 'StartError' ? 'refused' : String(exitCode);
      }),
    );
  }

  it('has pods whose first act succeeds where no policy is', async () => {
    await cluster.create('control', first);
    expect((await cluster.ended('control')).get('main')?.state?.terminated?.exitCode).toBe(0);
  });

  it(`denies the first act of each of ${PODS} pods, one after another`, async () => {
    await forbidden();
    expect(new Set(await outcomes('single', 1))).toEqual(new Set([String(DENIED)]));
  }, 3600_000);

  it(`denies the first act of each of ${PODS} pods, in bursts`, async () => {
    await forbidden();
    expect(new Set(await outcomes('burst', 10))).toEqual(new Set([String(DENIED)]));
  }, 3600_000);

  it('denies it in a namespace that is made and marked in the same second', async () => {
    cluster.kubectl(
      ['apply', '-f', '-'],
      JSON.stringify({
        apiVersion: 'security.belay.dev/v1',
        kind: 'ClusterWorkloadPolicy',
        metadata: { name: 'everywhere' },
        spec: {
          selector: { matchExpressions: [{ key: 'namespace', operator: 'NotIn', values: ['default'] }] },
          action: 'Allow',
          file: { matchPaths: [{ path: '/first' }] },
          process: { matchPaths: [{ path: '/first' }] },
        },
      }),
    );
    await known('ClusterWorkloadPolicy', 'everywhere');
    for (let i = 0; i < 5; i++) {
      const namespace = `marked-${i}`;
      await cluster.namespace(namespace);
      cluster.kubectl(['annotate', 'namespace', namespace, 'kubearmor-file-posture=block']);
      await cluster.create('first', { ...first, namespace });
      expect((await cluster.ended('first', namespace)).get('main')?.state?.terminated?.exitCode).toBe(DENIED);
    }
    cluster.kubectl(['delete', 'clusterworkloadpolicy', 'everywhere']);
  }, 600_000);

  it('lets no first act succeed while agents are killed and started all the time', async () => {
    await forbidden();
    let storming = true;
    let kills = 0;
    const storm = (async () => {
      while (storming) {
        // in turns while it enforces, long enough for pods to be known, and while it is about to
        const enforces = kills % 2 === 0;
        if (enforces) await cluster.agent.ready();
        await sleep(Math.random() * (enforces ? 60_000 : 20_000));
        await cluster.agent.kill();
        kills++;
        await sleep(Math.random() * 2000);
        await cluster.agent.launch(['--unknown-posture', 'block']);
      }
    })();
    const ended = await outcomes('storm', 5).finally(() => {
      storming = false;
    });
    await storm;
    await cluster.agent.kill();
    await cluster.agent.start(['--unknown-posture', 'block']);
    console.log(`${kills} kills: ${ended.toSorted().join(' ')}`);
    // 1, 126, 127, 128: what the runtime says when the program may not start
    expect(ended).not.toContain('0');
    expect(kills).toBeGreaterThan(2);
    expect(ended.filter((each) => each === String(DENIED)).length).toBeGreaterThan(0);
    await cluster.create('after', first);
    expect((await cluster.ended('after')).get('main')?.state?.terminated?.exitCode).toBe(DENIED);
  }, 3600_000);

  it(`holds for ${API_AWAY_S} s without the API server, and then takes up what changed`, async () => {
    await cluster.pod('steady');
    const container = await cluster.machine.run(
      `ctr -n k8s.io tasks ls | awk '$3 == "RUNNING" {print $1}' | while read -r id; do
         ctr -n k8s.io containers info "$id" | grep -q '"io.kubernetes.pod.name": "steady"' && echo "$id"; done`,
    );
    const reads = async (path: string) => {
      const tries = container.output
        .trim()
        .split('\n')
        .map((id) => `ctr -n k8s.io tasks exec --exec-id x$RANDOM ${id} cat ${path} 2>&1`);
      return (await cluster.machine.run(tries.join('; '))).output;
    };
    await apply(denies('passwd', 'default', '/etc/passwd'));
    await eventually(
      'it is denied',
      async () => /denied/.test(await reads('/etc/passwd')) || undefined,
      120_000,
    );
    const from = performance.now();
    await cluster.withoutApi(async () => {
      while (performance.now() - from < API_AWAY_S * 1000) {
        expect(await reads('/etc/passwd')).toMatch(/denied/);
        expect(await reads('/etc/group')).toMatch(/root:/);
        await sleep(20_000);
      }
    });
    await cluster.when('steady', undefined, 'is there', () => true);
    await apply(denies('group', 'default', '/etc/group'));
    cluster.kubectl(['delete', 'workloadpolicy', 'passwd']);
    await eventually(
      'it is denied',
      async () => /denied/.test(await reads('/etc/group')) || undefined,
      120_000,
    );
    await eventually('it is not', async () => /root:/.test(await reads('/etc/passwd')) || undefined, 120_000);
  }, 3600_000);

  it('tells of each policy what is so', async () => {
    const [PASSWD, GROUP] = ['/etc/passwd', '/etc/group'];
    const namespace = 'truth';
    await cluster.namespace(namespace);
    /** Of what the status says of the present version: its conditions, and on how many nodes it is in force. */
    const says = (wanted: Readonly<Record<string, string>>) =>
      eventually(
        `the status says ${JSON.stringify(wanted)}`,
        async () => {
          const { metadata, status } = await read('WorkloadPolicy', 'truth', namespace);
          const said: Record<string, string> = { nodes: status?.enforced as string };
          for (const { type, status: truth } of status?.conditions ?? []) said[type] = truth;
          const present = status?.observedGeneration === metadata?.generation;
          if (present && Object.entries(wanted).every(([name, value]) => said[name] === value)) return true;
          await sleep(500);
          return undefined;
        },
        180_000,
      );
    await apply(denies('truth', namespace, PASSWD));
    await says({ Accepted: 'True', Enforced: 'Unknown', nodes: '0/0' });
    await cluster.pod('one', { namespace });
    await says({ Accepted: 'True', Enforced: 'True', Degraded: 'False', nodes: '1/1' });
    // no `eventually`: what is said to be in force is
    expect(await reading(PASSWD, 'one', namespace)).toBe('denied');
    await apply(denies('truth', namespace, GROUP));
    await says({ Accepted: 'True', Enforced: 'True', nodes: '1/1' });
    expect(await reading(GROUP, 'one', namespace)).toBe('denied');
    expect(await reading(PASSWD, 'one', namespace)).toBe('read');
    const exploding = { matchPatterns: [{ pattern: `/**/*a${'?'.repeat(30)}` }] };
    await apply({ ...denies('truth', namespace, ''), spec: { file: exploding } } as never);
    await says({ Accepted: 'False', Enforced: 'False', nodes: '0/1' });
    expect(await reading(GROUP, 'one', namespace)).toBe('denied');
    await apply(denies('truth', namespace, PASSWD));
    await says({ Accepted: 'True', Enforced: 'True', nodes: '1/1' });
    expect(await reading(PASSWD, 'one', namespace)).toBe('denied');
    await cluster.remove('one', namespace);
    await says({ Accepted: 'True', Enforced: 'Unknown', nodes: '0/0' });
  }, 1200_000);

  it(`takes ${POLICIES} policies in ${NAMESPACES} namespaces at once, in bounded memory`, async () => {
    const before = await resident();
    const all = Array.from({ length: POLICIES }, (_, i) =>
      denies(`p-${i}`, `crowd-${i % NAMESPACES}`, `/etc/belay-${i}/secret`),
    );
    const ends = [0, NAMESPACES - 1];
    for (let i = 0; i < NAMESPACES; i++) {
      const name = `crowd-${i}`;
      if (!ends.includes(i)) await cluster.core.createNamespace({ body: { metadata: { name } } });
    }
    await Promise.all(
      ends.map(async (i) => {
        const namespace = `crowd-${i}`;
        await cluster.namespace(namespace);
        await cluster.pod('crowded', { namespace });
      }),
    );
    for (let i = 0; i < POLICIES; i += 50) await Promise.all(all.slice(i, i + 50).map((each) => apply(each)));
    const wanted = new Set(ends);
    await eventually(
      'all are known, and those that reach a pod here are told to be in force',
      async () => {
        const { status } = await read('NodeEnforcement', NODE);
        const here = all.filter((_, i) => wanted.has(i % NAMESPACES)).length;
        // besides those of the tests before
        const told = Object.keys(status?.enforced ?? {}).length;
        if (Number(status?.policies) >= POLICIES && told >= here) return true;
        await sleep(1000);
        return undefined;
      },
      1200_000,
    );
    for (const i of wanted) {
      const namespace = `crowd-${i}`;
      await apply(denies('p-last', namespace, '/etc/passwd'));
      await becomes('denied', '/etc/passwd', 'crowded', namespace);
    }
    const after = await resident();
    console.log(`resident: ${before} MiB before, ${after} MiB with ${POLICIES} policies`);
    expect(after).toBeLessThan(200);
  }, 3600_000);

  it('enforces what was written last, whoever wrote', async () => {
    await cluster.namespace('contention');
    await cluster.pod('contended', { namespace: 'contention' });
    const paths = ['/etc/passwd', '/etc/group', '/etc/hostname', '/etc/hosts'];
    // each a field manager of its own, which takes the field from the others; a write that comes too late is refused
    const write = (path: string) =>
      apply(denies('contended', 'contention', path), `writer-of${path.replaceAll('/', '-')}`).catch(
        (error) => {
          if (error.code !== 409) throw error;
        },
      );
    for (let round = 0; round < 10; round++) await Promise.all(paths.map(write));
    await apply(denies('contended', 'contention', '/etc/group'), 'the-last');
    await becomes('denied', '/etc/group', 'contended', 'contention');
    for (const path of ['/etc/passwd', '/etc/hostname', '/etc/hosts'])
      await becomes('read', path, 'contended', 'contention');
  }, 600_000);

  /** Of an object of Belay's kinds, with its metadata. */
  const read = async (kind: string, name: string, namespace?: string) =>
    (await objects.read({
      apiVersion: 'security.belay.dev/v1',
      kind,
      metadata: { name, namespace: namespace as string },
    })) as KubernetesObject & { readonly status?: PolicyStatus & NodeEnforcementStatus };

  /** Waits until the agent has this policy: of those that reach nothing it tells in numbers only. */
  const known = (kind: string, name: string, namespace?: string) =>
    eventually(
      `the policy ${name} is known`,
      async () => {
        const { metadata, status } = await read(kind, name, namespace);
        if (status?.observedGeneration === metadata?.generation) return true;
        await sleep(500);
        return undefined;
      },
      120_000,
    );

  /** Of the agent, in MiB, its programs' shared pages included. */
  const resident = async () => {
    const { output } = await cluster.machine.run(
      `for p in /proc/[0-9]*; do grep -qz -- --kubernetes "$p/cmdline" 2>/dev/null && grep VmRSS "$p/status"; done`,
    );
    return Math.max(...output.split('\n').map((line) => Number(/(\d+) kB/.exec(line)?.[1] ?? 0))) >> 10;
  };
});
