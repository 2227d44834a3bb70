import { readFileSync } from 'node:fs';
import { KubeConfig } from '@kubernetes/client-node';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { ApiError, KubeApi } from '../../agent/control/api.js';
import { ClusterPolicies, collectionOf } from '../../agent/control/policies.js';
import type { PolicyKind } from '../../agent/policy/model.js';
import { KINDS } from '../../agent/policy/vocabulary.js';
import { ControlPlane, kubernetesPrograms } from './control-plane.js';
import { apiOf, eventually, MERGE, pause, QUICK, recordedLog } from './harness.js';

const programs = kubernetesPrograms('the tests of policies against a real API server');

const DEFINITIONS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const OURS: readonly PolicyKind[] = ['WorkloadPolicy', 'ClusterWorkloadPolicy', 'HostPolicy'];
const DEPLOY = new URL('../../deploy/', import.meta.url);

describe.skipIf(programs === undefined)('the policies of a cluster', () => {
  let plane: ControlPlane;
  let api: KubeApi;
  let namespace = '';
  let count = 0;
  const closing: { close(): void }[] = [];

  beforeAll(async () => {
    plane = await ControlPlane.start({ programs: programs ?? '' });
    api = apiOf(plane);
    for (const kind of OURS) {
      const { group, plural } = names(kind);
      await define(kind, parse(readFileSync(new URL(`crds/${group}_${plural}.yaml`, DEPLOY), 'utf8')));
    }
    await define('KubeArmorPolicy');
  });
  afterAll(() => plane?.close());
  beforeEach(async () => {
    namespace = `test-${++count}`;
    await createNamespace(namespace);
  });
  afterEach(async () => {
    for (const each of closing.splice(0)) each.close();
    for (const kind of [...OURS, 'KubeArmorPolicy'] as const) {
      const list = await api.request<{ items: { metadata: { name: string; namespace?: string } }[] }>(
        collectionOf(kind),
      );
      const places = new Set(list.items.map(({ metadata }) => metadata.namespace));
      await Promise.all([...places].map((each) => api.request(pathOf(kind, '', each), { method: 'DELETE' })));
    }
  });

  const createNamespace = (name: string) =>
    api.request('/api/v1/namespaces', { method: 'POST', body: { metadata: { name } } });

  function names(kind: PolicyKind) {
    const [group = '', version = ''] = KINDS[kind].api.split('/');
    const plural = collectionOf(kind).split('/').at(-1) ?? '';
    return { group, version, plural, definition: `${DEFINITIONS}/${plural}.${group}` };
  }

  /** Makes the API server know a kind: as defined, or with whatever its spec may say. Resolves when it serves it. */
  async function define(kind: PolicyKind, definition: unknown = lax(kind)) {
    await api.request(DEFINITIONS, { method: 'POST', body: definition });
    await eventually(() => api.request(collectionOf(kind)).then(Boolean, () => false), Boolean);
  }

  /** A definition that lets everything in, as those of KubeArmor nearly do. */
  function lax(kind: PolicyKind) {
    const { group, version, plural } = names(kind);
    const schema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
    const served = { name: version, served: true, storage: true, schema: { openAPIV3Schema: schema } };
    return {
      metadata: { name: `${plural}.${group}` },
      spec: {
        group,
        scope: KINDS[kind].scope === 'namespace' ? 'Namespaced' : 'Cluster',
        names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
        versions: [{ ...served, subresources: { status: {} } }],
      },
    };
  }

  function pathOf(kind: PolicyKind, name: string, within?: string) {
    const { group, version, plural } = names(kind);
    return `/apis/${group}/${version}/${within ? `namespaces/${within}/` : ''}${plural}${name && `/${name}`}`;
  }

  const blocking = (path: string) => ({
    selector: { matchLabels: { app: 'web' } },
    process: { matchPaths: [{ path }] },
    action: 'Block',
  });

  const create = (name: string, spec: object, kind: PolicyKind = 'WorkloadPolicy', within = namespace) =>
    api.request(pathOf(kind, '', KINDS[kind].scope === 'namespace' ? within : undefined), {
      method: 'POST',
      body: { apiVersion: KINDS[kind].api, kind, metadata: { name }, spec },
    });
  const patch = (name: string, body: unknown, kind: PolicyKind = 'WorkloadPolicy') =>
    api.request(pathOf(kind, name, namespace), { method: 'PATCH', contentType: MERGE, body });
  const block = (name: string, path: string, kind?: PolicyKind) =>
    patch(name, { spec: blocking(path) }, kind);

  function follow(recorded = recordedLog(), as = apiOf(plane, recorded)) {
    let calls = 0;
    const policies = new ClusterPolicies({
      api: as,
      log: recorded.log,
      postures: { file: 'audit', network: 'audit', capabilities: 'audit' },
      onChange: () => calls++,
      timing: QUICK,
    });
    closing.push(policies);
    const of = (name: string) => policies.policies.filter((policy) => policy.name === name);
    const pathsOf = (name: string) =>
      of(name).flatMap(({ rules }) => rules.flatMap((rule) => ('match' in rule ? [rule.match] : [])));
    const stateOf = (name: string) =>
      [...policies.states.values()].find(({ ref }) => ref.name === name && ref.namespace === namespace);
    return { policies, of, pathsOf, stateOf, calls: () => calls, ...recorded };
  }

  const isPath = (path: string) => (seen: unknown) =>
    JSON.stringify(seen) === JSON.stringify([{ kind: 'path', path }]);

  it('are in force once created, changed when changed, and gone when deleted', async () => {
    await create('web', blocking('/bin/sh'));
    await create('all', { process: { matchPaths: [{ path: '/bin/nc' }] } }, 'ClusterWorkloadPolicy');
    const { policies, of, pathsOf, stateOf } = follow();
    await policies.synced;
    expect(pathsOf('web')).toEqual([{ kind: 'path', path: '/bin/sh' }]);
    expect(of('web')[0]).toMatchObject({ kind: 'WorkloadPolicy', namespace, scope: 'namespace' });
    expect(of('all')[0]).toMatchObject({ kind: 'ClusterWorkloadPolicy', namespace: '', scope: 'cluster' });
    const all = of('all')[0];
    await create(
      'node',
      { nodeSelector: { matchLabels: { '*': '*' } }, process: { matchPaths: [{ path: '/a' }] } },
      'HostPolicy',
    );
    await block('web', '/bin/bash');
    await eventually(() => pathsOf('web'), isPath('/bin/bash'));
    expect(stateOf('web')).toMatchObject({
      ref: { apiVersion: 'security.belay.dev/v1', kind: 'WorkloadPolicy', name: 'web', generation: 2 },
      accepted: true,
      generationInForce: 2,
      diagnostics: [],
    });
    await eventually(
      () => of('node').length,
      (length) => length === 1,
    );
    await api.request(pathOf('WorkloadPolicy', 'web', namespace), { method: 'DELETE' });
    await eventually(
      () => of('web').length,
      (length) => length === 0,
    );
    expect(stateOf('web')).toBeUndefined();
    expect(of('all')[0]).toBe(all);
  });

  it('are the same objects while only their labels and status change', async () => {
    await create('web', blocking('/bin/sh'));
    const { policies, of, calls } = follow();
    await policies.synced;
    const before = of('web')[0];
    await patch('web', { metadata: { labels: { a: 'b' } } });
    await api.request(`${pathOf('WorkloadPolicy', 'web', namespace)}/status`, {
      method: 'PATCH',
      contentType: MERGE,
      body: { status: { conditions: [] } },
    });
    await create('other', blocking('/bin/sh'));
    await eventually(
      () => of('other').length,
      (length) => length === 1,
    );
    expect(of('web')[0]).toBe(before);
    expect(calls()).toBe(2);
  });

  it('keep their last good version when a newer one is bad, and say why with the field', async () => {
    const { policies, of, pathsOf, stateOf, lines } = follow();
    await policies.synced;
    await create('web', blocking('/bin/sh'), 'KubeArmorPolicy');
    await eventually(() => pathsOf('web'), isPath('/bin/sh'));
    const good = of('web')[0];
    await block('web', 'bin/bash', 'KubeArmorPolicy');
    const state = await eventually(
      () => stateOf('web'),
      (seen) => seen?.ref.generation === 2,
    );
    expect(state).toMatchObject({
      accepted: false,
      generationInForce: 1,
      diagnostics: [
        {
          severity: 'error',
          field: 'spec.process.matchPaths[0].path',
          at: { file: `KubeArmorPolicy/${namespace}/web` },
          message: expect.stringContaining('bin/bash'),
        },
      ],
    });
    expect(lines.map(({ msg }) => msg).join('\n')).toContain('spec.process.matchPaths[0].path: ');
    await pause(400);
    expect(of('web')).toEqual([good]);
    expect(of('web')[0]).toBe(good);
    // what can be read and not compiled is bad as well: a pattern that needs too many states
    const huge = { matchPaths: null, matchPatterns: [{ pattern: HUGE }] };
    await patch('web', { spec: { process: huge } }, 'KubeArmorPolicy');
    await eventually(
      () => stateOf('web'),
      (seen) => seen?.ref.generation === 3 && !seen.accepted && seen.generationInForce === 1,
    );
    expect(stateOf('web')?.diagnostics[0]?.field).toMatch(/^spec\.process\.matchPatterns\[0\]/);
    expect(of('web')[0]).toBe(good);
    const mended = { matchPaths: [{ path: '/bin/zsh' }], matchPatterns: null };
    await patch('web', { spec: { process: mended } }, 'KubeArmorPolicy');
    await eventually(() => pathsOf('web'), isPath('/bin/zsh'));
    expect(stateOf('web')).toMatchObject({ accepted: true, generationInForce: 4, diagnostics: [] });
  });

  it('are rejected alone when bad from the beginning', async () => {
    await create('bad', { process: { matchPaths: [{}] } }, 'KubeArmorPolicy');
    await create('good', blocking('/bin/sh'));
    const { policies, of, stateOf } = follow();
    await policies.synced;
    expect(of('bad')).toEqual([]);
    expect(of('good').length).toBe(1);
    expect(stateOf('bad')?.accepted).toBe(false);
    expect(stateOf('bad')).not.toHaveProperty('generationInForce');
  });

  it('come with a definition that is added later, and go with one that is deleted', async () => {
    const kind = 'KubeArmorClusterPolicy';
    const { policies, of, lines } = follow();
    await policies.synced;
    expect(policies.policies).toEqual([]);
    for (let round = 0; round < 2; round++) {
      await define(kind);
      await create('ksp', { selector: {}, process: { matchPaths: [{ path: '/bin/sh' }] } }, kind);
      await eventually(
        () => of('ksp').length,
        (length) => length === 1,
      );
      await api.request(names(kind).definition, { method: 'DELETE' });
      await eventually(
        () => of('ksp').length,
        (length) => length === 0,
      );
      expect(policies.states.size).toBe(0);
      await eventually(
        () => api.request(names(kind).definition).then(Boolean, () => false),
        (there) => !there,
      );
    }
    expect(lines).toEqual([]);
  });

  it('stay while the API server is away or does not know its kinds yet, and lose no change', async () => {
    for (let i = 0; i < 5; i++) await create(`p${i}`, blocking('/bin/sh'));
    const { policies, of, pathsOf, lines } = follow();
    await policies.synced;
    const kept = of('p0')[0];
    let least = policies.policies.length;
    const watching = setInterval(() => {
      least = Math.min(least, policies.policies.length);
    }, 1);
    await plane.stopApiServer();
    await pause(1000);
    await plane.startApiServer();
    await block('p1', '/bin/bash');
    await create('p5', blocking('/bin/sh'));
    await eventually(() => pathsOf('p1'), isPath('/bin/bash'));
    await eventually(
      () => of('p5').length,
      (length) => length === 1,
    );
    clearInterval(watching);
    expect(least).toBe(5);
    expect(of('p0')[0]).toBe(kept);
    // those that have not noticed wait a little longer
    await eventually(
      () => lines.map(({ msg }) => msg),
      (told) => told.at(-1) === 'the Kubernetes API server answers again',
    );
    expect(lines.length).toBe(2);
  });

  it('end as the API has them after two writers have fought over one', async () => {
    await create('web', blocking('/bin/sh'));
    const { policies, pathsOf, stateOf } = follow();
    await policies.synced;
    let conflicts = 0;
    const path = pathOf('WorkloadPolicy', 'web', namespace);
    const write = async (who: string) => {
      for (let i = 0; i < 20; i++) {
        const object = await api.request(path);
        const body = { ...object, spec: blocking(`/bin/${who}${i}`) };
        await api.request(path, { method: 'PUT', body }).catch((error: unknown) => {
          if (!(error instanceof ApiError && error.status === 409)) throw error;
          conflicts++;
        });
      }
    };
    await Promise.all([write('a'), write('b')]);
    expect(conflicts).toBeGreaterThan(0);
    const { spec, metadata } = await api.request<{
      spec: { process: { matchPaths: [{ path: string }] } };
      metadata: { generation: number };
    }>(path);
    await eventually(() => pathsOf('web'), isPath(spec.process.matchPaths[0].path));
    expect(stateOf('web')?.generationInForce).toBe(metadata.generation);
  });

  it('are all in force after ten in each of a hundred namespaces came at once, told in few steps', async () => {
    const { policies, calls } = follow();
    await policies.synced;
    const namespaces = Array.from({ length: 100 }, (_, i) => `${namespace}-${i}`);
    await Promise.all(namespaces.map(createNamespace));
    const before = calls();
    const began = performance.now();
    await Promise.all(
      namespaces.map(async (within) => {
        for (let i = 0; i < 10; i++) await create(`p${i}`, blocking(`/bin/${i}`), 'WorkloadPolicy', within);
      }),
    );
    const created = performance.now() - began;
    await eventually(
      () => policies.policies.length,
      (length) => length === 1000,
      100,
    );
    const after = performance.now() - began;
    console.log(
      `1000 policies: created in ${Math.round(created)} ms, in force after ${Math.round(after)} ms, told in ${calls() - before} steps`,
    );
    // a step collects a quarter of a second at most
    expect(calls() - before).toBeLessThanOrEqual(Math.ceil(after / 250) + 2);
    const again = follow();
    const listing = performance.now();
    await again.policies.synced;
    console.log(`listed and compiled in ${Math.round(performance.now() - listing)} ms`);
    expect(again.policies.policies.length).toBe(1000);
    expect(again.calls()).toBe(1);
  }, 300_000);

  it('are read, and missing kinds seen to be missing, with the rights that the manifests give', async () => {
    await create('web', blocking('/bin/sh'));
    const manifests = parseAllDocuments(readFileSync(new URL('manifests/belay.yaml', DEPLOY), 'utf8'));
    const role = manifests.map((each) => each.toJS()).find((each) => each?.kind === 'ClusterRole');
    const rbac = '/apis/rbac.authorization.k8s.io/v1';
    await api.request(`${rbac}/clusterroles`, { method: 'POST', body: role });
    await api.request(`${rbac}/clusterrolebindings`, {
      method: 'POST',
      body: {
        metadata: { name: 'agent' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role.metadata.name },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'agent' }],
      },
    });
    const agent = plane.pki.client('agent', { CN: 'agent' });
    const kube = new KubeConfig();
    kube.loadFromFile(plane.pki.kubeconfig('agent.kubeconfig', plane.server, agent));
    const recorded = recordedLog();
    const { policies, of } = follow(recorded, new KubeApi(kube, recorded.log));
    await policies.synced;
    expect(of('web').length).toBe(1);
    // the server needs a moment to learn who may do what
    expect(recorded.lines.filter(({ msg }) => msg.includes('refuses')).length).toBe(
      recorded.lines.filter(({ msg }) => msg.includes('no longer refuses')).length,
    );
  });
});

/** To know whether the letter 15 from the end is an `a`, an automaton must remember all of the last 15. */
const HUGE = `/*a${'?'.repeat(14)}`;
