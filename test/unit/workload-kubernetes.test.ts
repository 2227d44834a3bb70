import { describe, expect, it } from 'vitest';
import { enums } from '../../agent/kernel/abi.js';
import type { Postures } from '../../agent/policy/model.js';
import { containerOfCgroup, podOfCgroup } from '../../agent/workload/cgroup-names.js';
import {
  type Cluster,
  type ContainerFacts,
  type KubernetesOptions,
  NodeWorkloads,
  type PodFacts,
} from '../../agent/workload/kubernetes.js';
import { workloadKey } from '../../agent/workload/model.js';

const V = enums.visible;
const UID = '12345678-9abc-def0-1234-56789abcdef0';
const AUDIT: Postures = { file: 'audit', network: 'audit', capabilities: 'audit' };
const OPTIONS: KubernetesOptions = { postures: AUDIT, unknown: 'audit', host: true };

const pod = (more: Partial<PodFacts> = {}): PodFacts => ({
  uid: UID,
  namespace: 'shop',
  name: 'web-1',
  labels: new Map([['app', 'web']]),
  annotations: new Map(),
  containers: [
    { name: 'setup', image: 'busybox' },
    { name: 'main', image: 'nginx:1' },
  ],
  ...more,
});
const container = (more: Partial<ContainerFacts> = {}): ContainerFacts => ({
  id: 'c1',
  podUid: UID,
  name: 'main',
  image: 'docker.io/library/nginx@sha256:0',
  sandbox: false,
  ...more,
});
const cluster = (more: Partial<Cluster> = {}): Cluster => ({
  node: { name: 'node-1', labels: new Map() },
  pods: [pod()],
  namespaces: new Map(),
  containers: [],
  ...more,
});
const of = (facts: Partial<Cluster>, options = OPTIONS) => new NodeWorkloads(options).of(cluster(facts));
const places = (facts: Partial<Cluster>, options = OPTIONS) => of(facts, options).map(({ place }) => place);

describe('the workloads of a node', () => {
  it('are its pods, told apart or not, the node, and the pods that nobody has told of', () => {
    expect(places({})).toEqual([{ kind: 'unknown' }, { kind: 'host' }, { kind: 'pod', uid: UID }]);
  });

  it('are no pods that have finished, whatever the runtime still has of them', () => {
    const finished = pod({ finished: true });
    expect(places({ pods: [finished], containers: [container()] })).toEqual([
      { kind: 'unknown' },
      { kind: 'host' },
    ]);
  });

  it('are containers once they are told apart, by the runtime or by kubelet', () => {
    const reported = pod({ containers: [{ name: 'setup', image: 'busybox', id: 'c0' }] });
    const found = of({ pods: [reported], containers: [container()] }).slice(3);
    expect(found.map((w) => [w.container, w.containerId, w.place?.kind])).toEqual([
      ['setup', 'c0', 'container'],
      ['main', 'c1', 'container'],
    ]);
  });

  it('have the image as the pod names it, and the runtime’s where it does not', () => {
    const other = container({ id: 'c2', name: 'debug' });
    const images = of({ containers: [container(), other] })
      .slice(3)
      .map(({ image }) => image);
    expect(images).toEqual(['nginx:1', 'docker.io/library/nginx@sha256:0']);
  });

  it('are nobody where it is the pod’s sandbox', () => {
    const found = places({ containers: [container({ id: 's', name: '', sandbox: true })] });
    expect(found).toContainEqual({ kind: 'nobody', uid: UID, id: 's' });
  });

  it('have names that a policy for containers may speak of, while they are not told apart', () => {
    expect(of({})[2].containers).toEqual(['setup', 'main']);
  });

  it('have the postures of their namespace, Belay’s annotation before KubeArmor’s, a wrong one not at all', () => {
    const annotations = new Map([
      ['kubearmor-file-posture', 'block'],
      ['kubearmor-network-posture', 'block'],
      ['belay-network-posture', 'audit'],
      ['belay-capabilities-posture', 'perhaps'],
    ]);
    const namespaces = new Map([['shop', { annotations }]]);
    expect(of({ namespaces })[2].postures).toEqual({
      file: 'block',
      network: 'audit',
      capabilities: 'audit',
    });
  });

  it.each([
    [{}, {}, undefined],
    [{ 'kubearmor-visibility': 'process, file,nothing' }, {}, V.VISIBLE_PROCESS | V.VISIBLE_FILE],
    [{ 'kubearmor-visibility': 'network' }, { 'kubearmor-visibility': 'none' }, 0],
    [{ 'kubearmor-visibility': 'network', 'belay-visibility': 'capabilities' }, {}, V.VISIBLE_CAPABILITIES],
    [{ 'belay-visibility': 'none' }, { 'kubearmor-visibility': 'file' }, V.VISIBLE_FILE],
  ])(
    'are as visible as their namespace says (%j), or they themselves (%j)',
    (ofNamespace, ofPod, visibility) => {
      const annotations = new Map(Object.entries(ofNamespace));
      const annotated = pod({ annotations: new Map(Object.entries(ofPod)) });
      const found = of({ pods: [annotated], namespaces: new Map([['shop', { annotations }]]) });
      expect(found[2].visibility).toBe(visibility);
    },
  );

  it.each([
    ['belay-policy', 'audited', 'audited'],
    ['kubearmor-policy', 'disabled', 'disabled'],
    ['kubearmor-policy', 'enabled', undefined],
  ])('do as the annotation %s: %s says', (name, value, enforcement) => {
    const annotated = pod({ annotations: new Map([[name, value]]) });
    expect(of({ pods: [annotated] })[2].enforcement).toBe(enforcement);
  });

  it('never judge the agent itself', () => {
    const exempt = { namespace: 'shop', name: 'web-1' };
    expect(of({}, { ...OPTIONS, exempt })[2].enforcement).toBe('disabled');
  });

  it('have the posture for unknown pods while nobody has told of their namespace', () => {
    const block = { file: 'block', network: 'block', capabilities: 'block' };
    expect(of({}, { ...OPTIONS, unknown: 'block' })[2].postures).toEqual(block);
    expect(of({})[2].postures).toEqual(AUDIT);
    const namespaces = new Map([['shop', { annotations: new Map() }]]);
    expect(of({ namespaces }, { ...OPTIONS, unknown: 'block' })[2].postures).toEqual(AUDIT);
  });

  it('start nothing in unknown pods where the posture is block', () => {
    expect(of({})[0].policies).toEqual([]);
    expect(of({}, { ...OPTIONS, unknown: 'block' })[0].policies?.[0].rules).toHaveLength(1);
  });

  it('are the same objects while nothing has changed, and others where something has', () => {
    const node = new NodeWorkloads(OPTIONS);
    const facts = cluster({ containers: [container()] });
    const before = node.of(facts);
    expect(node.of({ ...facts }).every((w, i) => w === before[i])).toBe(true);
    const relabelled = node.of({ ...facts, pods: [pod({ labels: new Map() })] });
    expect(relabelled.map((w, i) => w === before[i])).toEqual([true, true, false, false]);
    expect(relabelled.map(workloadKey)).toEqual(before.map(workloadKey));
  });
});

describe('the name of a cgroup', () => {
  it.each([
    [`pod${UID}`, UID],
    [`kubepods-burstable-pod${UID.replaceAll('-', '_')}.slice`, UID],
    [`kubelet-kubepods-pod${UID.replaceAll('-', '_')}.slice`, UID],
    ['pod0123456789abcdef0123456789abcdef', '0123456789abcdef0123456789abcdef'],
    ['kubepods-burstable.slice', undefined],
    ['podman-1234.scope', undefined],
    [`pod${UID}x`, undefined],
  ])('%s says which pod', (name, uid) => {
    expect(podOfCgroup(name)).toBe(uid);
  });

  const ID = 'a'.repeat(64);
  it.each([
    [ID, ID],
    [`cri-containerd-${ID}.scope`, ID],
    [`crio-${ID}.scope`, ID],
    [`crio-conmon-${ID}.scope`, undefined],
    ['a'.repeat(63), undefined],
    [`pod${UID}`, undefined],
  ])('%s says which container', (name, id) => {
    expect(containerOfCgroup(name)).toBe(id);
  });
});
