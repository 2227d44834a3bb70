import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { ApiError, type KubeApi, type KubeObject } from '../../agent/control/api.js';
import { NODE_ENFORCEMENTS } from '../../agent/control/node-enforcement.js';
import { ClusterPolicies, collectionOf } from '../../agent/control/policies.js';
import { ClusterReport } from '../../agent/control/report.js';
import type { AlertRecord } from '../../agent/event/record.js';
import type { Diagnostic, Policy } from '../../agent/policy/model.js';
import type { NodeEnforcementStatus } from '../../agent/policy/schema/node-enforcement.js';
import type { PolicyStatus } from '../../agent/policy/schema/policies.js';
import { ControlPlane, kubernetesPrograms } from './control-plane.js';
import { apiOf, eventually, MERGE, pause, QUICK, recordedLog } from './harness.js';

const programs = kubernetesPrograms('the tests of what agents tell a real API server');

const DEFINITIONS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const LEASE = '/apis/coordination.k8s.io/v1/namespaces/default/leases/belay-leader';
const EVENTS = '/api/v1/namespaces/default/events';
const POSTURES = { file: 'audit', network: 'audit', capabilities: 'audit' } as const;
const SHELL = { selector: {}, process: { matchPaths: [{ path: '/bin/sh' }] }, action: 'Block' };

const TIMING = {
  node: { ...QUICK, interval: 200, spread: 50 },
  leader: {
    ...{ duration: 3000, renew: 500, deadline: 2000 },
    ...{ look: 500, lookTogether: 0, retry: 200 },
  },
  status: { ...QUICK, quiet: 50, interval: 100, numbers: 100, burst: 100, perSecond: 100 },
  events: { quiet: 50 },
};

describe.skipIf(programs === undefined)('what agents tell the API server', () => {
  let plane: ControlPlane;
  let admin: KubeApi;
  const agents: Agent[] = [];
  let spool: string;

  beforeAll(async () => {
    spool = mkdtempSync(join(tmpdir(), 'belay-report-'));
    plane = await ControlPlane.start({
      programs: programs ?? '',
      flags: ['--disable-admission-plugins=ServiceAccount'],
    });
    admin = apiOf(plane);
    const folder = join(import.meta.dirname, '../../deploy/crds');
    for (const file of readdirSync(folder)) {
      const definition = parse(readFileSync(join(folder, file), 'utf8')) as KubeObject;
      await admin.request(DEFINITIONS, { method: 'POST', body: definition });
      const { group, names } = definition.spec as { group: string; names: { plural: string } };
      await eventually(
        () =>
          admin.request(`/apis/${group}/v1/${names.plural}`).then(
            () => true,
            () => false,
          ),
        Boolean,
      );
    }
  });
  afterAll(async () => {
    rmSync(spool, { recursive: true });
    await plane?.close();
  });
  afterEach(async () => {
    await Promise.all(agents.splice(0).map((agent) => agent.close()));
    for (const path of [NODE_ENFORCEMENTS, pathOf(''), collectionOf('ClusterWorkloadPolicy'), EVENTS])
      await admin.request(path, { method: 'DELETE' });
    await admin.request(LEASE, { method: 'DELETE' }).catch(() => {});
  });

  /** An agent but for its kernel: `reach` says for how many workloads each policy is in force. */
  class Agent {
    readonly node: string;
    readonly log = recordedLog();
    readonly api: KubeApi;
    readonly policies: ClusterPolicies;
    readonly report: ClusterReport;
    reach: (policy: Policy) => number = () => 2;
    unfit: Diagnostic[] = [];

    constructor(node: string, version = '1.0.0') {
      this.node = node;
      this.api = apiOf(plane, this.log);
      this.policies = new ClusterPolicies({
        ...{ api: this.api, log: this.log.log, postures: POSTURES, timing: QUICK },
        onChange: () => this.report.changed(),
        directory: join(spool, node),
      });
      this.report = new ClusterReport({
        ...{ api: this.api, log: this.log.log, namespace: 'default', policies: this.policies },
        identity: { node, agentVersion: version, kernel: '6.12', absentHooks: [] },
        enforcer: { coverage: () => ({ workloads: this.#workloads(), unfit: this.unfit }) },
        podUid: (_, name) => `uid-of-${name}`,
        timing: TIMING,
      });
      agents.push(this);
    }

    #workloads() {
      const all = this.policies.policies.map((policy) => [policy, this.reach(policy)] as const);
      return new Map(all.filter(([, workloads]) => workloads > 0));
    }

    async close(): Promise<void> {
      await this.policies.close();
      await this.report.close();
    }
  }

  async function agent(node: string, version?: string): Promise<Agent> {
    await admin
      .request('/api/v1/nodes', { method: 'POST', body: { metadata: { name: node } } })
      .catch((error: unknown) => {
        if (!(error instanceof ApiError && error.reason === 'AlreadyExists')) throw error;
      });
    return new Agent(node, version);
  }

  const pathOf = (name: string) =>
    `/apis/security.belay.dev/v1/namespaces/default/workloadpolicies${name && `/${name}`}`;
  const create = (name: string, spec: object) =>
    admin.request(pathOf(''), { method: 'POST', body: { ...KIND, metadata: { name }, spec } });
  const KIND = { apiVersion: 'security.belay.dev/v1', kind: 'WorkloadPolicy' };
  const change = (name: string, spec: object) =>
    admin.request(pathOf(name), { method: 'PATCH', contentType: MERGE, body: { spec } });
  const statusOf = async (name: string) => ((await admin.request(pathOf(name))).status ?? {}) as PolicyStatus;
  const told = async (node: string) => {
    const object = await admin.request(`${NODE_ENFORCEMENTS}/${node}`).catch(() => undefined);
    return object && { ...object, status: (object.status ?? {}) as NodeEnforcementStatus };
  };
  const condition = ({ conditions = [] }: PolicyStatus, type: string) => {
    const found = conditions.find((each) => each.type === type);
    return found && `${found.status} ${found.reason}`;
  };
  const events = async (kind: string) => {
    const { items } = await admin.request<{ items: CoreEvent[] }>(EVENTS);
    return items.filter(({ involvedObject }) => involvedObject.kind === kind);
  };

  it('says on how many nodes a policy is enforced, as nodes come, change and go', async () => {
    await create('web', SHELL);
    const one = await agent('one');
    await agent('two');
    const both = await eventually(
      () => statusOf('web'),
      (s) => s.enforced === '2/2',
    );
    expect(both).toMatchObject({
      observedGeneration: 1,
      nodes: { total: 2, enforced: 2, degraded: 0 },
      workloads: 4,
    });
    expect(['Accepted', 'Enforced', 'Degraded'].map((type) => condition(both, type))).toEqual([
      'True Accepted',
      'True Enforced',
      'False Whole',
    ]);

    one.reach = () => 0;
    one.report.changed();
    await eventually(
      () => statusOf('web'),
      (s) => s.enforced === '1/1' && s.workloads === 2,
    );
    await admin.request(`${NODE_ENFORCEMENTS}/two`, { method: 'DELETE' });
    // its agent is still there
    await eventually(
      () => told('two'),
      (object) => object?.status.enforced !== undefined,
    );
    await agents.splice(1, 1)[0].close();
    await admin.request(`${NODE_ENFORCEMENTS}/two`, { method: 'DELETE' });
    const none = await eventually(
      () => statusOf('web'),
      (s) => s.enforced === '0/0',
    );
    expect(condition(none, 'Enforced')).toBe('Unknown ReachesNothing');
  });

  it('follows a policy from one generation to the next', async () => {
    await agent('one');
    await create('web', SHELL);
    const first = await eventually(
      () => statusOf('web'),
      (s) => condition(s, 'Enforced') === 'True Enforced',
    );
    await change('web', { action: 'Audit' });
    const next = await eventually(
      () => statusOf('web'),
      (s) => s.observedGeneration === 2 && s.enforced === '1/1',
    );
    expect(next.conditions?.map((each) => each.observedGeneration)).toEqual([2, 2, 2]);
    const since = (status: PolicyStatus) =>
      status.conditions?.find(({ type }) => type === 'Accepted')?.lastTransitionTime;
    expect(since(next)).toBe(since(first));
  });

  it('names the field and the reason of a rejected policy, in its status and in one Event', async () => {
    await create('web', SHELL);
    const one = await agent('one');
    await eventually(
      () => statusOf('web'),
      (s) => s.enforced === '1/1',
    );
    await change('web', { process: { matchPatterns: [{ pattern: '/bin/[' }] } });
    const status = await eventually(
      () => statusOf('web'),
      (s) => condition(s, 'Accepted') === 'False Rejected' && s.enforced === '0/1' && s.workloads === 2,
    );
    expect(condition(status, 'Enforced')).toBe('False Rejected');
    const { message } = status.conditions?.find(({ type }) => type === 'Accepted') ?? {};
    expect(message).toContain('process.matchPatterns[0]');
    expect(message).toContain('in force instead: generation 1');
    expect(status.rules?.[0].rule).toContain('spec.process.matchPatterns[0]');
    const node = await eventually(
      () => told('one'),
      (object) => object?.status.troubled?.length === 1,
    );
    expect(node?.status.troubled?.[0]).toMatchObject({
      kind: 'WorkloadPolicy',
      namespace: 'default',
      name: 'web',
      observedGeneration: 2,
      state: 'Rejected',
      workloads: 2,
    });
    const [event, ...more] = await eventually(
      () => events('WorkloadPolicy'),
      (all) => all.length > 0,
    );
    expect(more).toEqual([]);
    expect(event).toMatchObject({ type: 'Warning', reason: 'Rejected', count: 1 });
    expect(event.message).toContain('process.matchPatterns[0]');

    // the next leader finds that all of this has been told, and renews the Event, which lives for an hour
    await one.close();
    agents.length = 0;
    const versions = async () =>
      [await admin.request(pathOf('web')), ...(await events('WorkloadPolicy'))].map(
        ({ metadata }) => metadata.resourceVersion,
      );
    const before = await versions();
    // an Event says in whole seconds when it happened last
    await pause(1100);
    const two = await agent('one');
    await eventually(() => two.report.leading, Boolean);
    await eventually(versions, (now) => now[1] !== before[1]);
    await pause(1500);
    expect((await versions())[0]).toBe(before[0]);
    const renewed = await events('WorkloadPolicy');
    expect(renewed.map(({ count, message }) => ({ count, message }))).toEqual([
      { count: 1, message: event.message },
    ]);
  });

  it('keeps a policy in force whose bad version came while no agent ran', async () => {
    await create('web', SHELL);
    const one = await agent('one');
    await eventually(
      () => statusOf('web'),
      (s) => s.enforced === '1/1',
    );
    await one.close();
    agents.length = 0;
    await change('web', { process: { matchPatterns: [{ pattern: '/bin/[' }] } });
    await agent('one');
    const status = await eventually(
      () => statusOf('web'),
      (s) => condition(s, 'Accepted') === 'False Rejected' && s.enforced === '0/1',
    );
    expect(status.workloads).toBe(2);
    expect(status.conditions?.find(({ type }) => type === 'Accepted')?.message).toContain(
      'in force instead: generation 1',
    );
  });

  it('tells where tables do not fit, with the reason and how many nodes', async () => {
    await create('web', SHELL);
    const one = await agent('one');
    await agent('two');
    one.unfit = [
      {
        at: { file: 'WorkloadPolicy/default/web', line: 1, column: 1 },
        severity: 'error',
        message: 'no room',
      },
    ];
    one.report.changed();
    const status = await eventually(
      () => statusOf('web'),
      (s) => s.enforced === '1/2',
    );
    expect(condition(status, 'Degraded')).toBe('True NotWhole');
    expect(status.reason).toBe('no room');
    expect(status.conditions?.find(({ type }) => type === 'Degraded')?.message).toBe('no room (1 node)');
  });

  it('writes a node once for many changes, not at all for none, and belongs to the node', async () => {
    await create('web', SHELL);
    const one = await agent('one');
    const object = await eventually(
      () => told('one'),
      (seen) => seen?.status.enforced !== undefined,
    );
    const node = await admin.request('/api/v1/nodes/one');
    expect(object?.metadata.ownerReferences).toEqual([
      { apiVersion: 'v1', kind: 'Node', name: 'one', uid: node.metadata.uid },
    ]);
    const web = (await admin.request(pathOf('web'))).metadata.uid;
    expect(object?.status).toMatchObject({
      node: 'one',
      agentVersion: '1.0.0',
      policies: 1,
      enforced: { [web]: '1:2' },
    });
    const version = async () => (await told('one'))?.metadata.resourceVersion;
    const before = await version();
    for (let i = 0; i < 20; i++) one.report.changed();
    await pause(1000);
    expect(await version()).toBe(before);
    await one.close();
    agents.length = 0;
    await agent('one');
    await pause(1500);
    expect(await version()).toBe(before);
  });

  it('puts right what somebody else writes into the report of a node, once', async () => {
    await create('web', SHELL);
    await agent('one');
    const enforced = async () => (await told('one'))?.status.enforced;
    const right = await eventually(enforced, (seen) => Object.keys(seen ?? {}).length === 1);
    const path = `${NODE_ENFORCEMENTS}/one`;
    const body = { status: { enforced: { other: '9:9' }, kernel: 'mine' } };
    for (let i = 0; i < 2; i++) {
      await admin.request(`${path}/status`, { method: 'PATCH', contentType: MERGE, body });
      await eventually(
        () => told('one'),
        (object) => object?.status.kernel === '6.12',
      );
      expect(await enforced()).toEqual(right);
    }
    const metadata = { labels: { a: 'b' } };
    const { metadata: labelled } = await admin.request(path, {
      ...{ method: 'PATCH', contentType: MERGE, body: { metadata } },
    });
    await pause(1500);
    expect((await told('one'))?.metadata.resourceVersion).toBe(labelled.resourceVersion);
  });

  it('elects one agent, and another when it ends or is cut off', async () => {
    const all = [await agent('one'), await agent('two'), await agent('three')];
    const leaders = () => all.filter(({ report }) => report.leading);
    const [first] = await eventually(leaders, ({ length }) => length === 1);
    await first.close();
    const [second] = await eventually(
      leaders,
      ([now, ...more]) => now !== undefined && now !== first && more.length === 0,
    );
    // its requests are lost, and it does not know
    let cut = true;
    const request = second.api.request.bind(second.api);
    second.api.request = async (path, details) => {
      if (cut && path.includes('/leases')) throw new ApiError(503, '', 'cut off');
      return request(path, details);
    };
    let both = false;
    await eventually(
      () => {
        both ||= leaders().length > 1;
        return leaders();
      },
      ([now]) => now !== undefined && now !== second,
    );
    expect(both).toBe(false);
    cut = false;
    await pause(2000);
    expect(leaders()).not.toContain(second);
    const lease = await admin.request(LEASE);
    expect((lease.spec as { leaseTransitions: number }).leaseTransitions).toBe(2);
  });

  it('counts blocks in one Event on the pod, and never floods the API server', async () => {
    const one = await agent('one');
    // the server has it before the agent knows, and more is counted in between
    const request = one.api.request.bind(one.api);
    one.api.request = async (path, details) => {
      const answer = await request<never>(path, details);
      if (path === EVENTS) await pause(500);
      return answer;
    };
    for (let i = 0; i < 1000; i++) one.report.record(alert({}));
    const [event] = await eventually(
      () => events('Pod'),
      (all) => all.length > 0,
    );
    expect(event).toMatchObject({
      involvedObject: { kind: 'Pod', namespace: 'default', name: 'web-1', uid: 'uid-of-web-1' },
      type: 'Warning',
      reason: 'Blocked',
      count: 1000,
      message: 'Blocked exec of /bin/sh by policy web (process.matchPaths[0])',
    });
    one.report.record(alert({ count: '7' }));
    await eventually(
      () => events('Pod'),
      ([{ count }]) => count === 1007,
    );
    one.report.record(alert({ verdict: 'Passed', rule: 'audited' }));
    one.report.record(alert({ dryRun: true, rule: 'dry' }));
    for (let i = 0; i < 100; i++) one.report.record(alert({ rule: `process.matchPaths[${i}]` }));
    await pause(1000);
    const all = await events('Pod');
    expect(all.length).toBeLessThanOrEqual(5);
    expect(all.every(({ message }) => message.includes('matchPaths'))).toBe(true);
  });
});

interface CoreEvent extends KubeObject {
  readonly involvedObject: { readonly kind: string; readonly name: string };
  readonly message: string;
  readonly count: number;
}

function alert(more: Partial<AlertRecord>): AlertRecord {
  return {
    ...{ schema: 'belay.v1', type: 'alert', time: '0', id: 'a-1', sequence: '1', node: 'one', cluster: 'c' },
    ...{ namespace: 'default', pod: 'web-1', container: 'nginx', containerId: '', image: '', labels: {} },
    ...{ class: 'Process', operation: 'exec', object: { path: '/bin/sh' } },
    ...{ policy: 'web', policyNamespace: 'default', rule: 'process.matchPaths[0]', ruleId: 6, generation: 1 },
    ...{ action: 'Block', verdict: 'Denied', dryRun: false, severity: 1, tags: [], message: '', count: '1' },
    enforcer: 'BPF-LSM',
    ...more,
  };
}
