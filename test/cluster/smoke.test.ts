import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cluster, clusterPrograms } from './cluster.js';

describe.skipIf(clusterPrograms() === undefined)('a cluster', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start();
  });
  afterAll(() => cluster?.stop());

  it('runs a pod, and commands in it with and without a terminal', async () => {
    const pod = await cluster.pod('sleeper');
    expect(pod.spec?.nodeName).toBe('localhost');

    const plain = await cluster.exec('sleeper', ['sh', '-c', 'tty; exit 3']);
    expect(plain).toMatchObject({ status: 3, output: 'not a tty\n' });
    const terminal = await cluster.exec('sleeper', ['tty'], { tty: true });
    expect(terminal).toMatchObject({ status: 0, output: '/dev/pts/0\r\n' });
    const missing = await cluster.exec('sleeper', ['/nothing']);
    expect(missing.status).not.toBe(0);
    expect(missing.output + missing.error).toContain('no such file');
  });

  it('names the cgroup of a container by its pod', async () => {
    const { metadata, status } = await cluster.core.readNamespacedPod({
      namespace: 'default',
      name: 'sleeper',
    });
    const id = status?.containerStatuses?.[0].containerID?.replace('containerd://', '');
    const found = await cluster.guest(`cd /sys/fs/cgroup && find kubepods -name ${id}`);
    expect(found).toBe(`kubepods/besteffort/pod${metadata?.uid}/${id}`);
  });

  it('puts an ephemeral container into a pod', async () => {
    const pod = await cluster.debug('sleeper', 'debugger', 'localhost/busybox:1', ['sleep', '100000']);
    expect(pod.status?.ephemeralContainerStatuses?.[0].state?.running).toBeDefined();
    const { output } = await cluster.exec('sleeper', ['echo', 'inside'], { container: 'debugger' });
    expect(output).toBe('inside\n');
  });

  it('tells how a program ended whose first instructions open a file', async () => {
    const of = (name: string, path: string) =>
      cluster.create(name, { image: 'localhost/act:1', command: ['/first', path] });
    await Promise.all([of('reads', '/secret'), of('fails', '/nothing')]);
    const code = async (name: string) => (await cluster.ended(name)).get('main')?.state?.terminated?.exitCode;
    expect(await code('reads')).toBe(0);
    expect(await code('fails')).toBe(2);
  });

  it('lets a pod reach the API server by its service', async () => {
    const ask = 'printf "GET / HTTP/1.0\\r\\n\\r\\n" | nc -w 20 10.96.0.1 443';
    const { output } = await cluster.exec('sleeper', ['sh', '-c', ask]);
    expect(output).toContain('HTTPS server');
  });

  it('deletes a pod', async () => {
    await cluster.remove('sleeper');
    expect(await cluster.guest('ctr containers list --quiet labels."io.kubernetes.pod.name"==sleeper')).toBe(
      '',
    );
  });

  it('runs several commands on the node at once', async () => {
    const start = performance.now();
    const outputs = await Promise.all(['1', '2', '3'].map((n) => cluster.guest(`sleep 3; echo ${n}`)));
    expect(outputs).toEqual(['1', '2', '3']);
    expect(performance.now() - start).toBeLessThan(8000);
    await expect(cluster.guest('echo why; exit 7')).rejects.toThrow(/ended with 7[\s\S]*why/);
  });
});
