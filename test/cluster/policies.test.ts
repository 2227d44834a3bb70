import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../kernel/harness.js';
import { Cluster, clusterPrograms, NODE } from './cluster.js';

const PASSWD = '/etc/passwd';
const GROUP = '/etc/group';

/** What is said of a policy, in the agent's own kinds unless `of` says otherwise. */
function policy(
  name: string,
  spec: string,
  of: { kind?: string; namespace?: string; group?: string } = {},
): string {
  const { kind = 'WorkloadPolicy', namespace = 'default', group = 'security.belay.dev' } = of;
  const where = /Cluster|Host/.test(kind) ? '' : `, namespace: ${namespace}`;
  // not a flow mapping as a whole: kubectl would take it for JSON
  return `apiVersion: ${group}/v1\nkind: ${kind}\nmetadata: {name: ${name}${where}}\nspec: {${spec}}\n`;
}

const onWeb = (what: string) => `selector: {matchLabels: {app: web}}, ${what}`;
const file = (path: string) => `file: {matchPaths: [{path: ${path}}]}`;
const kubearmorCrd = (plural: string, kind: string) => `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ${plural}.security.kubearmor.com}
spec:
  group: security.kubearmor.com
  scope: Namespaced
  names: {plural: ${plural}, singular: ${kind.toLowerCase()}, kind: ${kind}, listKind: ${kind}List}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`;

describe.skipIf(clusterPrograms() === undefined)('policies of a cluster', () => {
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await Cluster.start();
    cluster.install();
    await cluster.agent.start();
  });
  afterAll(async () => {
    await cluster?.agent.stop();
    await cluster?.stop();
  });

  const reads = async (pod: string, path: string, options = {}) => {
    const { output } = await cluster.exec(pod, ['cat', path], options);
    return output.includes('Permission denied') ? 'denied' : output.includes('root:') ? 'read' : output;
  };

  /** For what the API server must first tell the agent; what was true once stays true. */
  async function becomes(what: 'denied' | 'read', pod: string, path: string, options = {}): Promise<void> {
    const end = performance.now() + 60_000;
    let now = await reads(pod, path, options);
    while (now !== what && performance.now() < end) {
      await sleep(100);
      now = await reads(pod, path, options);
    }
    expect(now).toBe(what);
  }

  it('hold in pods that run, for kubectl exec with a terminal and without', async () => {
    await cluster.pod('web', { labels: { app: 'web' } });
    await cluster.pod('db', { labels: { app: 'db' } });
    expect(await reads('web', PASSWD)).toBe('read');
    cluster.apply(policy('secret', onWeb(file(PASSWD))));
    await becomes('denied', 'web', PASSWD);
    expect(await reads('web', PASSWD, { tty: true })).toBe('denied');
    expect(await reads('web', GROUP)).toBe('read');
    expect(await reads('db', PASSWD)).toBe('read');
    const [alert] = cluster.agent.alerts((a) => a.policy === 'secret');
    expect(alert).toMatchObject({
      namespace: 'default',
      pod: 'web',
      container: 'main',
      labels: { app: 'web' },
      object: { path: PASSWD },
      verdict: 'Denied',
    });
    expect(alert.containerId).toMatch(/^[0-9a-f]{64}$/);
    expect(alert.image).toContain('busybox');
  });

  const first = (name: string) => ({
    name,
    image: 'localhost/act:1',
    imagePullPolicy: 'Never',
    command: ['/first', '/secret'],
  });

  it('hold from a container’s first act on, for init and ephemeral containers too', async () => {
    cluster.apply(policy('first', onWeb(file('/secret'))));
    await cluster.pod('late', { labels: { app: 'web' } });
    await becomes('denied', 'web', PASSWD);
    await cluster.create('first', {
      labels: { app: 'web' },
      spec: { initContainers: [first('init')], containers: [first('main')] },
    });
    const denied = await eventually('the init container ends', async () => {
      const { status } = await cluster.core.readNamespacedPod({ namespace: 'default', name: 'first' });
      return status?.initContainerStatuses?.[0].state?.terminated?.exitCode;
    });
    expect(denied).toBe(13);
    const debug = await cluster.debug('web', 'debugger', 'localhost/act:1', ['/first', '/secret']);
    const ended = await eventually('the ephemeral container ends', async () => {
      const { status } = await cluster.core.readNamespacedPod({ namespace: 'default', name: 'web' });
      return status?.ephemeralContainerStatuses?.find((s) => s.name === 'debugger')?.state?.terminated
        ?.exitCode;
    });
    expect(debug.metadata?.name).toBe('web');
    expect(ended).toBe(13);
  });

  it('hold in pods with the node’s namespaces, from the first act on', async () => {
    const spec = { hostPID: true, hostNetwork: true, hostIPC: true, containers: [first('main')] };
    await cluster.create('inside', { labels: { app: 'web' }, spec });
    const ended = await cluster.ended('inside');
    expect(ended.get('main')?.state?.terminated?.exitCode).toBe(13);
    await cluster.create('outside', { labels: { app: 'db' }, spec });
    expect((await cluster.ended('outside')).get('main')?.state?.terminated?.exitCode).toBe(0);
  });

  it('hold for probes', async () => {
    const probed = (name: string, app: string) => {
      const exec = { command: ['cat', PASSWD] };
      const readinessProbe = { exec, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1 };
      const command = ['sleep', '100000'];
      const main = { name: 'main', image: 'localhost/busybox:1', imagePullPolicy: 'Never', command };
      return cluster.pod(name, { labels: { app }, spec: { containers: [{ ...main, readinessProbe }] } });
    };
    await probed('probed', 'web');
    await probed('also-probed', 'db');
    await cluster.when(
      'also-probed',
      undefined,
      'is ready',
      ({ status }) => status?.containerStatuses?.[0].ready,
    );
    await eventually(
      'a probe is denied',
      () => cluster.agent.alerts((a) => a.pod === 'probed' && a.object.path === PASSWD)[0],
    );
    const { status } = await cluster.core.readNamespacedPod({ namespace: 'default', name: 'probed' });
    expect(status?.containerStatuses?.[0].ready).toBe(false);
    await cluster.remove('probed');
    await cluster.remove('also-probed');
  });

  it('hold in static pods', async () => {
    const manifest = `
apiVersion: v1
kind: Pod
metadata: {name: static, namespace: default, labels: {app: web}}
spec:
  containers: [{name: main, image: "localhost/busybox:1", imagePullPolicy: Never, command: [sleep, "100000"]}]
  terminationGracePeriodSeconds: 1
`;
    const path = '/etc/kubernetes/manifests/static.yaml';
    await cluster.guest(`cat > ${path} <<'Y'\n${manifest}\nY`);
    const name = `static-${NODE}`;
    const exists = () =>
      cluster.core.readNamespacedPod({ namespace: 'default', name }).catch(() => undefined);
    await eventually('kubelet tells of it', exists, 120_000);
    await cluster.when(name, undefined, 'runs', ({ status }) => status?.phase === 'Running');
    await becomes('denied', name, PASSWD);
    expect(await reads(name, GROUP)).toBe('read');
    await cluster.guest(`rm ${path}`);
  });

  it('may be of the node itself', async () => {
    await cluster.guest('echo root: > /run/of-the-node');
    const onNode = `nodeSelector: {matchLabels: {kubernetes.io/hostname: ${NODE}}}`;
    cluster.apply(policy('node', `${onNode}, ${file('/run/of-the-node')}`, { kind: 'HostPolicy' }));
    const reads = async () => (await cluster.machine.run('cat /run/of-the-node')).output;
    await eventually(
      'the node is denied it',
      async () => /Permission denied/.test(await reads()) || undefined,
    );
    cluster.kubectl(['delete', 'hostpolicy', 'node']);
    await eventually('the node may again', async () => /root:/.test(await reads()) || undefined);
  });

  it('may speak of containers by name, in pods whose containers have the same names', async () => {
    const container = (name: string) => ({
      name,
      image: 'localhost/busybox:1',
      imagePullPolicy: 'Never',
      command: ['sleep', '100000'],
    });
    const spec = { containers: [container('one'), container('two')] };
    await cluster.pod('pair', { labels: { app: 'pair' }, spec });
    await cluster.pod('other-pair', { labels: { app: 'other-pair' }, spec });
    const selector = 'selector: {matchLabels: {app: pair, kubearmor.io/container.name: "[one]"}}';
    cluster.apply(policy('one', `${selector}, ${file(PASSWD)}`));
    await becomes('denied', 'pair', PASSWD, { container: 'one' });
    expect(await reads('pair', PASSWD, { container: 'two' })).toBe('read');
    expect(await reads('other-pair', PASSWD, { container: 'one' })).toBe('read');
  });

  it('follow the labels of pods that run', async () => {
    const label = (app: string) => cluster.kubectl(['label', '--overwrite', 'pod', 'db', `app=${app}`]);
    expect(await reads('db', PASSWD)).toBe('read');
    label('web');
    await becomes('denied', 'db', PASSWD);
    label('db');
    await becomes('read', 'db', PASSWD);
  });

  it('are of a pod, not of its name', async () => {
    await cluster.remove('late');
    await cluster.pod('late', { labels: { app: 'other' } });
    expect(await reads('late', PASSWD)).toBe('read');
    await cluster.remove('late');
    await cluster.pod('late', { labels: { app: 'web' } });
    expect(await reads('late', PASSWD)).toBe('denied');
  });

  it('may be of the cluster: by namespaces, those included that come later', async () => {
    const expressions =
      'selector: {matchExpressions: [{key: namespace, operator: NotIn, values: [default]}]}';
    cluster.apply(policy('elsewhere', `${expressions}, ${file(GROUP)}`, { kind: 'ClusterWorkloadPolicy' }));
    await cluster.namespace('later');
    await cluster.pod('anything', { namespace: 'later' });
    await becomes('denied', 'anything', GROUP, { namespace: 'later' });
    expect(await reads('web', GROUP)).toBe('read');
  });

  it('have the posture that the namespace says', async () => {
    cluster.apply(policy('allowed', `action: Allow, ${file(PASSWD)}`, { namespace: 'later' }));
    await becomes('read', 'anything', PASSWD, { namespace: 'later' });
    expect(await reads('anything', '/etc/hostname', { namespace: 'later' })).not.toBe('denied');
    cluster.kubectl(['annotate', 'namespace', 'later', 'kubearmor-file-posture=block']);
    await becomes('denied', 'anything', '/etc/hostname', { namespace: 'later' });
    cluster.kubectl(['delete', 'workloadpolicy', '-n', 'later', 'allowed']);
    cluster.kubectl(['delete', 'clusterworkloadpolicy', 'elsewhere']);
    await becomes('read', 'anything', GROUP, { namespace: 'later' });
  });

  it('may be KubeArmor’s, once the cluster knows what those are', async () => {
    cluster.apply(kubearmorCrd('kubearmorpolicies', 'KubeArmorPolicy'));
    cluster.kubectl(['wait', '--for=condition=Established', 'crd/kubearmorpolicies.security.kubearmor.com']);
    const rules = 'severity: 5, message: no groups, action: Block';
    cluster.apply(
      policy('armour', `${onWeb(file(GROUP))}, ${rules}`, {
        kind: 'KubeArmorPolicy',
        group: 'security.kubearmor.com',
      }),
    );
    await becomes('denied', 'web', GROUP);
    expect(cluster.agent.alerts((a) => a.policy === 'armour')[0]).toMatchObject({
      severity: 5,
      message: 'no groups',
    });
    cluster.kubectl(['delete', 'kubearmorpolicy', 'armour']);
    await becomes('read', 'web', GROUP);
  });

  it('stay as they were where a new version cannot be used', async () => {
    const exploding = `file: {matchPatterns: [{pattern: "/**/*a${'?'.repeat(30)}"}]}`;
    cluster.apply(policy('secret', onWeb(exploding)));
    await eventually('it is rejected', () =>
      /the policy is rejected/.test(cluster.agent.log) ? true : undefined,
    );
    expect(await reads('web', PASSWD)).toBe('denied');
    cluster.apply(policy('secret', onWeb(file(PASSWD))));
  });

  it('hold while the agent is dead, and go on with the next one', async () => {
    await cluster.agent.kill();
    expect(await reads('web', PASSWD)).toBe('denied');
    cluster.apply(policy('meanwhile', onWeb(file(GROUP))));
    await cluster.agent.start();
    await becomes('denied', 'web', GROUP);
    expect(await reads('web', PASSWD)).toBe('denied');
    cluster.kubectl(['delete', 'workloadpolicy', 'meanwhile']);
    await becomes('read', 'web', GROUP);
  });
});
