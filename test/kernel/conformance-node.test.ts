import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AlertRecord, BelayRecord } from '../../agent/event/record.js';
import { EventStream } from '../../agent/event/stream.js';
import { Enforcer } from '../../agent/kernel/enforcer.js';
import { Kernel } from '../../agent/kernel/kernel.js';
import type { Posture } from '../../agent/policy/model.js';
import { readPolicies } from '../../agent/policy/read.js';
import { NodeWorkloads, type PodFacts } from '../../agent/workload/kubernetes.js';
import { visibilityOf } from '../../agent/workload/visibility.js';
import { matches } from '../conformance/case.js';
import { Container, outcomeOf, ubuntuFiles } from '../conformance/containers.js';
import {
  type ExpectedLog,
  HOST,
  HOST_POLICIES,
  NAMESPACES,
  type NodeCase,
  SETTINGS,
} from '../conformance/node.js';
import { brief, eventually, Shell } from './harness.js';

const posturesOf = (posture: Posture) => ({ file: posture, network: posture, capabilities: posture });

/** In order, so that the pod's name says its cgroup. */
const uidOf = (n: number) => `abcdef78-9abc-def0-1234-${n.toString(16).padStart(12, '0')}`;

/** What KubeArmor's own tests expect of a node. Pods and namespaces are told by hand; test/cluster has real ones. */
describe('KubeArmor’s conformance, of a node', () => {
  const records: BelayRecord[] = [];
  const containers = new Map<string, Container>();
  const pods: PodFacts[] = [];
  let workloads: NodeWorkloads;
  let kernel: Kernel;
  let enforcer: Enforcer;
  let events: EventStream;
  let host: Shell;

  function tell(): void {
    const annotated = Object.entries(NAMESPACES).map(
      ([name, annotations]) => [name, { annotations: new Map(Object.entries(annotations)) }] as const,
    );
    const cluster = { node: { name: 'node-1', labels: new Map() }, namespaces: new Map(annotated) };
    expect(enforcer.setWorkloads(workloads.of({ ...cluster, pods, containers: [] }))).toEqual([]);
  }

  beforeAll(async () => {
    kernel = new Kernel();
    enforcer = new Enforcer(kernel, posturesOf('audit'));
    workloads = new NodeWorkloads({ postures: posturesOf('audit'), unknown: 'audit', host: true });
    const stream = { node: 'node-1', cluster: 'default' };
    events = new EventStream(kernel, enforcer, stream, {
      write: (record) => records.push(record),
      keep: () => {},
      cgroupMade: (path) => enforcer.cgroupMade(path),
    });
    for (const namespace of Object.keys(NAMESPACES))
      pods.push({
        ...{ uid: uidOf(pods.length + 1), namespace, name: namespace },
        ...{ labels: new Map([['app', namespace]]), annotations: new Map() },
        containers: [{ name: 'main', image: 'ubuntu' }],
      });
    tell();
    void events.start();
    const files = ubuntuFiles();
    await Promise.all(
      pods.map(async ({ uid, name }) => {
        const cgroup = `kubepods/pod${uid}/${uid.replaceAll('-', '').padEnd(64, '0')}`;
        containers.set(name, await Container.start({ name, cgroup }, files));
      }),
    );
    const server = await Container.start({ name: 'server' }, files);
    containers.set('server', server);
    await server.run('names 127.0.0.1 & cd /var/www/html; httpd httpd -p 80');
    host = new Shell('/bin/bash', []);
  });
  afterAll(async () => {
    events?.close();
    kernel?.close();
    await Promise.all([...containers.values()].map((container) => container.close()));
  });

  const alerts = (from: number) =>
    records.slice(from).filter((record): record is AlertRecord => record.type === 'alert');
  const logs = (wanted: ExpectedLog, from: number) =>
    records.slice(from).filter((record) => {
      if ((record.type !== 'log' && record.type !== 'exec') || record.pod !== wanted.pod) return false;
      const is = record.type === 'exec' ? 'Process' : record.class;
      return wanted.class === undefined || wanted.class === is;
    });

  async function check(one: NodeCase): Promise<void> {
    const { visibility = 'none', posture = 'audit' } = one;
    workloads.options = { postures: posturesOf(posture), unknown: 'audit', host: true };
    expect(enforcer.setPostures(posturesOf(posture))).toEqual([]);
    expect(enforcer.setVisibility(visibilityOf(visibility))).toEqual([]);
    tell();
    const read = one.policies.map((text) => readPolicies(text, one.name));
    expect(read.flatMap(({ diagnostics }) => diagnostics.filter((d) => d.severity === 'error'))).toEqual([]);
    expect(enforcer.setPolicies(read.flatMap(({ policies }) => policies))).toEqual([]);
    // what was repeated within the second before is told after it
    await sleep(1500);
    const before = records.length;
    for (const step of one.steps) {
      const container = containers.get(step.in);
      if (container === undefined && step.in !== HOST) throw new Error(`there is no ${step.in}`);
      const came = container === undefined ? outcomeOf(host, step) : container.outcome(step);
      expect({ step, came: await came }).toEqual({ step, came: step.outcome });
    }
    for (const wanted of one.alerts ?? [])
      await eventually('the alert', () => alerts(before).find((alert) => matches(alert, wanted))).catch(
        (error) => {
          const seen = alerts(before)
            .slice(-8)
            .map((alert) => JSON.stringify(brief(alert)));
          throw new Error(
            `${JSON.stringify(wanted)}: ${error.message}; the last ones were:\n${seen.join('\n')}`,
          );
        },
      );
    for (const wanted of one.logs ?? [])
      await eventually(`a log like ${JSON.stringify(wanted)}`, () => logs(wanted, before)[0]);
    if (one.unlogged === undefined && one.silent === undefined) return;
    await sleep(1500);
    for (const unwanted of one.unlogged ?? []) expect(logs(unwanted, before)).toEqual([]);
    for (const unwanted of one.silent ?? [])
      expect(
        alerts(before)
          .filter((alert) => matches(alert, unwanted))
          .map(brief),
      ).toEqual([]);
  }

  describe('host_policy and nsp', () => {
    afterAll(() => expect(enforcer.setPolicies([])).toEqual([]));
    for (const one of HOST_POLICIES) it(one.name, () => check(one));
  });

  describe('visibility, configmap and networktests', () => {
    for (const one of SETTINGS) it(one.name, () => check(one));
  });
});
