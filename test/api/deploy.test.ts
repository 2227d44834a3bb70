import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AuthorizationV1Api } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Manifest, only, renderChart } from '../chart/render.js';
import { ControlPlane, kubernetesPrograms } from './control-plane.js';

/** Kinds that this control plane, of an earlier Kubernetes or without Prometheus' operator, does not have. */
const NEWER = [
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
  'PodMonitor',
  'PrometheusRule',
];

/** Fields that came after it: it would refuse them as unknown. */
function asOlder(object: Manifest): Manifest {
  return JSON.parse(JSON.stringify(object), (key, value) => (key === 'appArmorProfile' ? undefined : value));
}

const programs = kubernetesPrograms('the deployment on a real API server', ['kube-apiserver', 'kubectl']);

describe.runIf(programs)('the rendered chart on a real API server', () => {
  let plane: ControlPlane;
  const kubectl = (...args: string[]) => {
    const all = ['--kubeconfig', plane.kubeconfig, ...args];
    return spawnSync(join(programs ?? '', 'kubectl'), all, { encoding: 'utf8' });
  };
  const write = (name: string, objects: readonly Manifest[]) => {
    const file = join(plane.folder, `${name}.json`);
    writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects.map(asOlder) }));
    return file;
  };
  const ours = (values: object) => renderChart(values).filter(({ kind }) => !NEWER.includes(kind));

  beforeAll(async () => {
    plane = await ControlPlane.start({ programs: programs ?? '' });
    execFileSync(join(programs ?? '', 'kubectl'), [
      ...['--kubeconfig', plane.kubeconfig, 'create', 'namespace', 'belay-system'],
    ]);
  });
  afterAll(() => plane?.close());

  test.each([
    ['as it comes', {}],
    [
      'with another runtime and without metrics',
      {
        config: { criSocket: '/run/crio/crio.sock', metricsAddress: null },
      },
    ],
    ['while it is taken off', { uninstall: true }],
  ])('is accepted, every field of it, %s', (name, values) => {
    const objects = ours(values);
    const { status, stdout, stderr } = kubectl('apply', '--dry-run=server', '-f', write(name, objects));
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(objects.length);
  });

  test('gives the agents the rights that it says, and no other', async () => {
    const { metadata } = only(renderChart(), 'ServiceAccount');
    expect(kubectl('apply', '-f', write('real', ours({}))).stderr).toBe('');
    const reviews = plane.kube.makeApiClient(AuthorizationV1Api);
    const user = `system:serviceaccount:${metadata.namespace}:${metadata.name}`;
    const can = async ([verb, group, what, namespace, name]: readonly string[]) => {
      const [resource, subresource] = what?.split('/') ?? [];
      const resourceAttributes = { verb, group, resource, subresource, namespace, name };
      const body = { spec: { user, resourceAttributes } };
      return (await reviews.createSubjectAccessReview({ body })).status?.allowed;
    };
    const belay = 'security.belay.dev';
    const leases = ['coordination.k8s.io', 'leases'];
    for (const allowed of [
      ['watch', '', 'pods'],
      ['watch', belay, 'workloadpolicies'],
      ['patch', belay, 'workloadpolicies/status', 'shop'],
      ['patch', belay, 'nodeenforcements', '', 'worker-1'],
      ['patch', belay, 'nodeenforcements/status', '', 'worker-1'],
      ['create', '', 'events', 'shop'],
      ['create', ...leases, 'belay-system'],
      ['update', ...leases, 'belay-system', 'belay-leader'],
    ])
      expect(await can(allowed), allowed.join(' ')).toBe(true);
    for (const denied of [
      ['get', '', 'secrets', 'belay-system'],
      ['create', '', 'pods', 'belay-system'],
      ['create', '', 'pods/exec', 'shop'],
      ['patch', belay, 'workloadpolicies', 'shop'],
      ['delete', belay, 'nodeenforcements', '', 'worker-1'],
      ['update', ...leases, 'belay-system', 'other'],
      ['update', ...leases, 'kube-system', 'belay-leader'],
    ])
      expect(await can(denied), denied.join(' ')).toBe(false);
  });
});
