import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { cgroupOfProcess, cgroupOfSpec, containerCgroup } from '../../agent/workload/cgroup.js';
import { describe as describeContainer } from '../../agent/workload/containerd-container.js';

describe('the cgroup that a specification asks for', () => {
  test.each([
    ['/default/web', '/default/web'],
    ['/kubepods/burstable/pod1/abc', '/kubepods/burstable/pod1/abc'],
    ['/a//b/../c/', '/a/c'],
    ['system.slice:docker:abc', '/system.slice/docker-abc.scope'],
    [':cri-containerd:abc', '/system.slice/cri-containerd-abc.scope'],
    ['-.slice:p:n', '/p-n.scope'],
    ['user.slice:p:deep.slice', '/user.slice/deep.slice'],
    [
      'kubepods-besteffort-pod1_2.slice:cri-containerd:abc',
      '/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-abc.scope',
    ],
    ['relative/path', undefined],
    ['', undefined],
    ['a.slice:b', undefined],
    ['a.slice:b:c:d', undefined],
    ['a--b.slice:p:n', undefined],
    ['-a.slice:p:n', undefined],
    ['a/b.slice:p:n', undefined],
    ['a:p:n', undefined],
    ['.slice:p:n', undefined],
    ['a.slice:p:', undefined],
  ])('%s is %s', (asked, path) => {
    expect(cgroupOfSpec(asked)).toBe(path);
  });
});

describe('the cgroup that a container is seen in', () => {
  test.each([
    ['where the specification says', '/default/web', '/default/web', '/default/web'],
    ['its first process having gone deeper', '/default/web', '/default/web/init.scope', '/default/web'],
    ['below the node, which is a container itself', '/pods/web', '/docker/1/pods/web', '/docker/1/pods/web'],
    ['below the node and deeper', '/pods/web', '/docker/1/pods/web/init', '/docker/1/pods/web'],
    ['elsewhere', '/default/web', '/default/web2', '/default/web2'],
    ['relative', 'a/b', '/runc/a/b/c', '/runc/a/b'],
    ['by systemd', 's.slice:p:n', '/s.slice/p-n.scope/x', '/s.slice/p-n.scope'],
    ['by no specification', '', '/a', '/a'],
  ])('%s', (_, asked, seen, cgroup) => {
    expect(containerCgroup(asked, seen)).toBe(cgroup);
  });
});

describe('the cgroup of a process', () => {
  const proc = mkdtempSync(join(tmpdir(), 'belay-proc-'));
  afterAll(() => rmSync(proc, { recursive: true }));

  test.each([
    ['0::/a/b\n', '/a/b'],
    ['12:pids:/x\n1:name=systemd:/y\n0::/z\n', '/z'],
    ['0::/a (deleted)\n', '/a'],
    ['0::/a:b\n', '/a:b'],
    ['0::/\n', undefined],
    ['0::/../../a\n', undefined],
    ['12:pids:/x\n', undefined],
  ])('%j is %s', (text, path) => {
    mkdirSync(join(proc, '7'), { recursive: true });
    writeFileSync(join(proc, '7', 'cgroup'), text);
    expect(cgroupOfProcess(7, proc)).toBe(path);
  });

  test('that is gone is not known', () => {
    expect(cgroupOfProcess(8, proc)).toBeUndefined();
  });
});

describe('a container', () => {
  const container = (cgroupsPath: string | undefined, labels: Record<string, string> = {}) => ({
    id: 'c1',
    labels,
    image: 'nginx:1',
    spec: { value: Buffer.from(JSON.stringify({ linux: { cgroupsPath } })) },
  });
  const pod = {
    'io.kubernetes.pod.namespace': 'shop',
    'io.kubernetes.pod.name': 'web-1',
    'io.kubernetes.container.name': 'nginx',
    'io.cri-containerd.kind': 'container',
  };

  test('of a pod is named by its labels', () => {
    expect(describeContainer('k8s.io', container('/p/c1', pod), undefined, undefined)).toEqual({
      cgroupsPath: '/p/c1',
      workload: {
        namespace: 'shop',
        name: 'web-1',
        container: 'nginx',
        labels: new Map(Object.entries(pod)),
        containerId: 'c1',
        image: 'nginx:1',
        cgroup: '/sys/fs/cgroup/p/c1',
      },
    });
  });

  test('of no pod is named by its id', () => {
    const found = describeContainer('default', container('/default/c1'), undefined, undefined);
    expect(found).toMatchObject({ workload: { namespace: 'default', name: 'c1', container: 'c1' } });
  });

  test('that is a sandbox is no workload', () => {
    const labels = { ...pod, 'io.cri-containerd.kind': 'sandbox' };
    expect(describeContainer('k8s.io', container('/p/c1', labels), undefined, undefined)).toBeUndefined();
  });

  test('with a relative cgroup is none before it starts', () => {
    expect(describeContainer('default', container('a/b'), undefined, undefined)).toBeUndefined();
  });

  test('keeps the cgroup that it was seen in', () => {
    const first = describeContainer('default', container('a/b'), undefined, {
      cgroupsPath: 'a/b',
      workload: { cgroup: '/sys/fs/cgroup/runc/a/b' } as never,
    });
    expect(first).toMatchObject({ workload: { cgroup: '/sys/fs/cgroup/runc/a/b' } });
  });

  test.each([
    ['the root', '/', 'root of all cgroups'],
    ['too long a path', `/${'a'.repeat(300)}`, 'is 301 bytes long'],
  ])('in %s is a fault', (_, path, fault) => {
    expect(describeContainer('default', container(path), undefined, undefined)).toEqual({
      fault: expect.stringContaining(fault),
    });
  });
});
