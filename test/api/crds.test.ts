import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { KubeApi } from '../../agent/control/api.js';
import { policyFiles } from '../../agent/policy/files.js';
import { KINDS_SERVED } from '../../agent/policy/schema/crds.js';
import { type NodeEnforcementStatus, writeEnforced } from '../../agent/policy/schema/node-enforcement.js';
import type { PolicyStatus } from '../../agent/policy/schema/policies.js';
import { admit } from '../schema/api-server.js';
import { faults as faultyPolicies, unmark } from '../unit/policy-cases.js';
import { ControlPlane, kubernetesPrograms } from './control-plane.js';
import { apiOf, eventually, MERGE } from './harness.js';

const programs = kubernetesPrograms("the tests of Belay's kinds in a real API server", [
  'kube-apiserver',
  'kubectl',
]);
const deploy = join(import.meta.dirname, '../../deploy');

describe.skipIf(programs === undefined)("Belay's kinds in a real API server", () => {
  let plane: ControlPlane;
  let api: KubeApi;

  beforeAll(async () => {
    plane = await ControlPlane.start({ programs: programs ?? '' });
    api = apiOf(plane);
    // a kubectl of before Kubernetes 1.25 does not know CEL conditions, and stumbles over them
    const applied = kubectl('apply', '--validate=false', '-f', join(deploy, 'crds'));
    expect(applied.stderr).toBe('');
    for (const namespace of ['shop', 'p']) kubectl('create', 'namespace', namespace);
    await eventually(
      () => kubectl('get', 'crd', '-o', 'jsonpath={.items[*].status.conditions[*].status}').stdout,
      (seen) => seen === Array(KINDS_SERVED.length).fill('True True').join(' '),
    );
    // what kubectl asks the API server to validate with follows some time later
    await eventually(
      () => kubectl('explain', 'workloadpolicy.spec.process').stdout,
      (seen) => seen.includes('Which programs may run.'),
      60,
    );
  });
  afterAll(() => plane?.close());

  function kubectl(...args: string[]) {
    return run(args);
  }
  function run(args: readonly string[], input = '') {
    const command = join(programs ?? '', 'kubectl');
    return spawnSync(command, ['--kubeconfig', plane.kubeconfig, ...args], { input, encoding: 'utf8' });
  }

  const policies = '/apis/security.belay.dev/v1/namespaces/shop/workloadpolicies';
  const post = (name: string, spec: unknown) =>
    api.request<{ spec: object }>(policies, {
      method: 'POST',
      body: {
        apiVersion: 'security.belay.dev/v1',
        kind: 'WorkloadPolicy',
        metadata: { name },
        spec,
      },
    });

  it('takes the example policies as kubectl applies them, and fills in defaults', async () => {
    const applied = kubectl('apply', '-f', join(deploy, 'examples'));
    expect(applied).toMatchObject({ stderr: '', status: 0 });
    for (const file of policyFiles(join(deploy, 'examples'))) {
      const { metadata, spec } = parse(readFileSync(file, 'utf8'));
      const stored = await api.request<{ spec: object }>(`${policies}/${metadata.name}`);
      expect(stored.spec).toEqual({ action: 'Block', mode: 'Enforce', severity: 1, ...spec });
    }
  });

  it('gives defaults to the spec only, never where something is inherited', async () => {
    const { spec } = await post('defaults', { file: { matchPaths: [{ path: '/a' }] } });
    expect(spec).toEqual({
      action: 'Block',
      mode: 'Enforce',
      severity: 1,
      file: { matchPaths: [{ path: '/a' }] },
    });
  });

  it('keeps a label without a value, lest the selector reach more', async () => {
    const { spec } = await post('null-label', { selector: { matchLabels: { app: null } }, severity: null });
    expect(spec).toMatchObject({ selector: { matchLabels: { app: null } }, severity: 1 });
  });

  it('refuses what the schema refuses without CEL, and says what it wants', async () => {
    let refused = 0;
    for (const { name, text } of faultyPolicies) {
      let object: { kind?: string } | undefined;
      try {
        object = parse(unmark(text).text, { version: '1.1' });
      } catch {
        continue;
      }
      const kind = KINDS_SERVED.find((served) => served.kind === object?.kind);
      const { faults } = admit(object);
      // of these the API server says nothing, or kubectl says it, or CEL does
      if (kind === undefined || faults.every((fault) => !fault.startsWith('/'))) continue;
      const answer = run(['create', '--validate=false', '-f', '-'], JSON.stringify(object));
      expect([name, answer.status]).toEqual([name, 1]);
      expect(answer.stderr).toMatch(/spec/);
      refused++;
    }
    expect(refused).toBeGreaterThan(40);
  });

  it.each([
    [{ action: 'block' }, 'supported values: "Allow", "Audit", "Block", "Kill", "KillContainer"'],
    [{ process: { matchPaths: [{ path: 'bin/sh' }] } }, 'spec.process.matchPaths.path'],
    [{ file: { matchDirectories: [{ recursive: true }] } }, 'dir: Required value'],
    [{ network: { egress: [{ to: [{ cidr: '10.0.0.300/8' }] }] } }, 'spec.network.egress.to.cidr'],
    [{ severity: 11 }, 'less than or equal to 10'],
    [{ containers: ['a b'] }, 'spec.containers'],
  ])('refuses %j with a message that names the place', async (spec, message) => {
    await expect(post('bad', spec)).rejects.toThrow(message);
  });

  it('lets kubectl refuse a field that it does not know', () => {
    const policy = {
      apiVersion: 'security.belay.dev/v1',
      kind: 'WorkloadPolicy',
      metadata: { name: 'typo', namespace: 'shop' },
      spec: { process: { matchPaths: [{ path: '/a', ownrOnly: true }] } },
    };
    const answer = run(['create', '-f', '-'], JSON.stringify(policy));
    expect(answer.stderr).toContain('unknown field "ownrOnly"');
  });

  it('shows state in columns, under short names and the category, from the status that is written apart', async () => {
    const name = 'web-no-shells';
    const condition = {
      status: 'True' as const,
      reason: 'Compiled',
      message: 'as the nodes tell',
      lastTransitionTime: '2026-11-24T03:05:22Z',
      observedGeneration: 1,
    };
    const status: PolicyStatus = {
      observedGeneration: 1,
      conditions: [
        { type: 'Enforced', ...condition, status: 'False', reason: 'NodesLack' },
        { type: 'Accepted', ...condition },
      ],
      enforced: '40/41',
      nodes: { total: 41, enforced: 40, degraded: 1 },
      workloads: 3,
      reason: 'node-7: no BPF LSM',
      rules: [{ rule: 'process.matchPaths[0]', reason: 'not enforced on node-7' }],
    };
    const put = await api.request<{ status: unknown; metadata: { generation: number } }>(
      `${policies}/${name}/status`,
      { method: 'PATCH', contentType: MERGE, body: { status } },
    );
    expect(put.status).toEqual(status);
    // a status is no new generation, and who writes the spec does not touch it
    expect(put.metadata.generation).toBe(1);
    const spec = await api.request<{ status: unknown; metadata: { generation: number } }>(
      `${policies}/${name}`,
      { method: 'PATCH', contentType: MERGE, body: { spec: { severity: 3 }, status: { enforced: 'lie' } } },
    );
    expect(spec.status).toEqual(status);
    expect(spec.metadata.generation).toBe(2);

    const rows = (...args: string[]) =>
      kubectl('get', '-n', 'shop', ...args)
        .stdout.split('\n')
        .map((line) => line.split(/ {2,}/).map((cell) => cell.trim()));
    const [head, row] = rows('wp', name);
    expect(head).toEqual(['NAME', 'MODE', 'ACTION', 'ACCEPTED', 'ENFORCED', 'REASON', 'AGE']);
    expect(row?.slice(0, -1)).toEqual([name, 'Enforce', 'Block', 'True', '40/41', 'node-7: no BPF LSM']);
    const [wide, wideRow] = rows('wp', name, '-o', 'wide');
    expect(wideRow?.[wide?.indexOf('WORKLOADS') ?? -1]).toBe('3');
    for (const category of ['belay', 'security']) {
      expect(kubectl('get', category, '-n', 'shop').stdout).toContain(
        `workloadpolicy.security.belay.dev/${name}`,
      );
    }
  });

  it('keeps cluster and host policies, which need a nodeSelector', () => {
    const object = (kind: string, spec: object) =>
      run(
        ['create', '-f', '-'],
        JSON.stringify({ apiVersion: 'security.belay.dev/v1', kind, metadata: { name: 'p' }, spec }),
      );
    const file = { matchPaths: [{ path: '/a' }] };
    const selector = { matchExpressions: [{ key: 'namespace', operator: 'In', values: ['a'] }] };
    expect(object('ClusterWorkloadPolicy', { selector, file }).stderr).toBe('');
    expect(object('HostPolicy', { file }).stderr).toContain('missing required field "nodeSelector"');
    expect(object('HostPolicy', { nodeSelector: {}, file }).stderr).toBe('');
    expect(kubectl('get', 'cwp,hp', '-o', 'name').stdout.trim().split('\n')).toEqual([
      'clusterworkloadpolicy.security.belay.dev/p',
      'hostpolicy.security.belay.dev/p',
    ]);
  });

  it('holds a node that tells of 500 policies in 25 KiB, its bookkeeping included', async () => {
    const nodes = '/apis/security.belay.dev/v1/nodeenforcements';
    const status: NodeEnforcementStatus = {
      node: 'node-1',
      agentVersion: '0.1.0',
      kernel: '6.12.43+deb13-cloud-amd64',
      time: '2026-11-24T03:05:22Z',
      policies: 500,
      enforced: Object.fromEntries(
        Array.from({ length: 500 }, (_, i) => [
          `662a4f99-168d-45f5-93a1-${i.toString(16).padStart(12, '0')}`,
          writeEnforced({ generation: 12, workloads: 110 }),
        ]),
      ),
      troubled: [
        {
          ...{ uid: 'u', kind: 'WorkloadPolicy', namespace: 'shop', name: 'web', observedGeneration: 2 },
          ...{ state: 'Rejected', workloads: 1, rule: 'process.matchPaths[0]', reason: 'too many states' },
        },
      ],
    };
    const head = {
      apiVersion: 'security.belay.dev/v1',
      kind: 'NodeEnforcement',
      metadata: { name: 'node-1' },
    };
    await api.request(nodes, { method: 'POST', body: head });
    await api.request(`${nodes}/node-1/status`, { method: 'PATCH', contentType: MERGE, body: { status } });
    const stored = await api.request<{ status: unknown }>(`${nodes}/node-1`);
    expect(stored.status).toEqual(status);
    expect(JSON.stringify(stored).length).toBeLessThan(25 * 1024);
    expect(kubectl('get', 'ne').stdout).toMatch(/node-1 +0\.1\.0 +6\.12\S+ +500 +too many states/);
  });
});
