import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { KubeApi } from '../../agent/control/api.js';
import { Namespaces } from '../../agent/control/namespaces.js';
import { NodePods, type PodFacts } from '../../agent/control/pods.js';
import { ControlPlane, kubernetesPrograms } from './control-plane.js';
import { apiOf, eventually, MERGE, pause, QUICK } from './harness.js';

const programs = kubernetesPrograms('the tests of pods and namespaces against a real API server');

describe.skipIf(programs === undefined)('with a real API server', () => {
  let plane: ControlPlane;
  let api: KubeApi;
  const closing: { close(): void }[] = [];

  beforeAll(async () => {
    // nothing makes the service accounts that it would look for
    plane = await ControlPlane.start({
      programs: programs ?? '',
      flags: ['--disable-admission-plugins=ServiceAccount'],
    });
    api = apiOf(plane);
  });
  afterAll(() => plane?.close());
  afterEach(() => {
    for (const each of closing.splice(0)) each.close();
  });

  const pods = '/api/v1/namespaces/default/pods';
  const createPod = (name: string, nodeName: string, metadata: object = {}, spec: object = {}) =>
    api.request(pods, {
      method: 'POST',
      body: {
        metadata: { name, labels: { app: name }, ...metadata },
        spec: { nodeName, containers: [{ name: 'main', image: 'localhost/busybox:1' }], ...spec },
      },
    });
  const patch = (path: string, body: unknown) =>
    api.request(path, { method: 'PATCH', contentType: MERGE, body });
  const deletePod = (name: string) =>
    api.request(`${pods}/${name}`, { method: 'DELETE', query: { gracePeriodSeconds: 0 } });

  function follow(node: string) {
    const told: ReadonlyMap<string, PodFacts>[] = [];
    const watch = new NodePods({ api, node, timing: QUICK, onChange: (now) => told.push(now) });
    closing.push(watch);
    const named = (name: string) => [...watch.pods.values()].find((pod) => pod.name === name);
    return { watch, told, named };
  }

  it('shows the pods of one node, and never those of another', async () => {
    await createPod('there-already', 'here');
    await createPod('elsewhere-already', 'elsewhere');
    const { watch, told, named } = follow('here');
    await watch.synced;
    expect([...watch.pods.values()].map(({ name }) => name)).toEqual(['there-already']);
    await createPod('elsewhere', 'elsewhere');
    await createPod('unbound', '');
    await createPod('later', 'here');
    await eventually(() => named('later'), Boolean);
    await deletePod('there-already');
    await eventually(
      () => watch.pods.size,
      (size) => size === 1,
    );
    const seen = told.flatMap((each) => [...each.values()].map(({ name }) => name));
    expect([...new Set(seen)].sort()).toEqual(['later', 'there-already']);
  });

  it('shows a pod as soon as it is bound to the node', async () => {
    const { watch, named } = follow('bound');
    await watch.synced;
    await createPod('waits', '');
    await api.request(`${pods}/waits/binding`, {
      method: 'POST',
      body: { metadata: { name: 'waits' }, target: { kind: 'Node', name: 'bound' } },
    });
    await eventually(() => named('waits'), Boolean);
  });

  it('knows names, labels, owner, images, container ids and the end', async () => {
    const { watch, told, named } = follow('facts');
    await watch.synced;
    const pod = await createPod(
      'full',
      'facts',
      {
        annotations: { 'belay-policy': 'audited' },
        ownerReferences: [
          { apiVersion: 'v1', kind: 'ConfigMap', name: 'other', uid: '1' },
          { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'full-7', uid: '2', controller: true },
        ],
      },
      { initContainers: [{ name: 'first', image: 'localhost/init:1' }] },
    );
    const { uid } = pod.metadata;
    await eventually(() => watch.pods.get(uid), Boolean);
    const calls = told.length;
    const state = { ready: false, restartCount: 0, image: '', imageID: '' };
    const status = (phase: string, ready: string) =>
      patch(`${pods}/full/status`, {
        status: {
          phase,
          conditions: [{ type: 'Ready', status: ready }],
          initContainerStatuses: [{ ...state, name: 'first', containerID: 'cri-o://0101' }],
          containerStatuses: [{ ...state, name: 'main', containerID: 'containerd://abcd' }],
        },
      });
    await status('Running', 'False');
    await eventually(
      () => told.length,
      (length) => length > calls,
    );
    const running = watch.pods.get(uid);
    expect(running).toEqual({
      uid,
      namespace: 'default',
      name: 'full',
      labels: new Map([['app', 'full']]),
      annotations: new Map([['belay-policy', 'audited']]),
      containers: [
        { name: 'first', image: 'localhost/init:1', kind: 'init', id: '0101' },
        { name: 'main', image: 'localhost/busybox:1', kind: 'container', id: 'abcd' },
      ],
      owner: { kind: 'ReplicaSet', name: 'full-7' },
      finished: false,
    });
    // what is of no interest is not told, and other pods' changes leave this one the same object
    await status('Running', 'True');
    await createPod('other', 'facts');
    await eventually(() => named('other'), Boolean);
    expect(told.length).toBe(calls + 2);
    expect(watch.pods.get(uid)).toBe(running);
    await patch(`${pods}/full`, { metadata: { labels: { app: 'new' } } });
    await eventually(
      () => watch.pods.get(uid)?.labels.get('app'),
      (app) => app === 'new',
    );
    await status('Succeeded', 'False');
    await eventually(
      () => watch.pods.get(uid)?.finished,
      (finished) => finished === true,
    );
  });

  it('knows a static pod by the hash that the kubelet gave it, which nobody else can take', async () => {
    const { watch, named } = follow('static');
    await watch.synced;
    const plain = await createPod('plain', 'static');
    const mirror = (hash: string) => ({
      annotations: { 'kubernetes.io/config.hash': hash, 'kubernetes.io/config.mirror': hash },
    });
    const hash = '0123456789abcdef0123456789abcdef';
    await createPod('real', 'static', mirror(hash));
    await eventually(() => watch.pods.get(hash), Boolean);
    await pause(1100); // creation times are whole seconds
    await createPod('thief', 'static', mirror(hash));
    await createPod('forger', 'static', mirror(plain.metadata.uid));
    // without the mark of a mirror, the kubelet runs it under its own UID
    const pretender = await createPod('pretender', 'static', {
      annotations: { 'kubernetes.io/config.hash': 'f'.repeat(32) },
    });
    await eventually(() => named('pretender'), Boolean);
    expect(watch.pods.get(hash)?.name).toBe('real');
    expect(watch.pods.get(plain.metadata.uid)?.name).toBe('plain');
    expect(watch.pods.get(pretender.metadata.uid)?.name).toBe('pretender');
    expect(watch.pods.size).toBe(3);
  });

  it('tells a pod from another of the same name that came after it', async () => {
    const { watch } = follow('again');
    await watch.synced;
    const first = await createPod('same', 'again');
    await deletePod('same');
    const second = await createPod('same', 'again');
    await eventually(() => watch.pods.get(second.metadata.uid), Boolean);
    expect(watch.pods.get(first.metadata.uid)).toBeUndefined();
  });

  it('knows the labels and annotations of all namespaces, and their changes', async () => {
    let calls = 0;
    const watch = new Namespaces({ api, timing: QUICK, onChange: () => calls++ });
    closing.push(watch);
    await watch.synced;
    expect([...watch.namespaces.keys()]).toContain('kube-system');
    expect(calls).toBe(1);
    const metadata = { name: 'shop', labels: { team: 'a' } };
    await api.request('/api/v1/namespaces', { method: 'POST', body: { metadata } });
    await eventually(() => watch.namespaces.get('shop'), Boolean);
    const before = watch.namespaces.get('default');
    await patch('/api/v1/namespaces/shop', {
      metadata: { labels: { team: 'b' }, annotations: { 'belay-file-posture': 'block' } },
    });
    const shop = await eventually(
      () => watch.namespaces.get('shop'),
      (facts) => facts?.labels.get('team') === 'b',
    );
    expect(shop?.annotations.get('belay-file-posture')).toBe('block');
    expect(watch.namespaces.get('default')).toBe(before);
    await api.request('/api/v1/namespaces/shop', { method: 'DELETE' });
    // nothing collects it here, so the last step is taken by hand
    await api.request('/api/v1/namespaces/shop/finalize', {
      method: 'PUT',
      body: { metadata: { name: 'shop' }, spec: { finalizers: [] } },
    });
    await eventually(
      () => watch.namespaces.has('shop'),
      (has) => !has,
    );
  });
});
