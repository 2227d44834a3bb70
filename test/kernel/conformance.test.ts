import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Case, denied, matches, NAMESPACE, passes } from '../conformance/case.js';
import { Container, type ContainerOptions, cgroupOf, ubuntuFiles } from '../conformance/containers.js';
import { KSP } from '../conformance/ksp.js';
import {
  CONTAINERS,
  DNS,
  DOCKER,
  NAMESPACES,
  NETWORK,
  ONLY_CURL,
  ONLY_ITS_FILES,
  PRESETS,
  PRIVILEGED,
  SMOKE,
} from '../conformance/suites.js';
import { SYSCALLS } from '../conformance/syscalls.js';
import { Caller } from '../unit/serve-client.js';
import { Belay, brief, eventually } from './harness.js';

interface Member extends ContainerOptions {
  readonly pod: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly namespace?: string;
}

const ubuntu = (name: string, group: string): Member => ({
  name,
  pod: name,
  labels: { container: name, group },
});
const app = (name: string, more: Partial<Member> = {}): Member => ({
  name,
  pod: name,
  labels: { app: name },
  ...more,
});
const inNamespace = (namespace: string, name: string): Member => ({
  ...{ name: `${namespace}-${name}`, pod: name, namespace, labels: { app: name } },
});
const MEMBERS: readonly Member[] = [
  ...[ubuntu('ubuntu-1', 'group-1'), ubuntu('ubuntu-2', 'group-2'), ubuntu('ubuntu-3', 'group-1')],
  ...[app('wordpress'), app('mysql'), app('all-capabilities', { powerful: true })],
  app('privileged', { privileged: true }),
  ...['container-1', 'container-2'].map((name) => ({ name, pod: 'pair', labels: { app: 'pair' } })),
  ...[inNamespace('nginx1', 'nginx'), inNamespace('nginx1', 'debian'), inNamespace('nginx2', 'nginx')],
];
const SOCKET = '/tmp/belay-conformance.sock';
const BLOCK = ['filePosture: block', 'networkPosture: block', 'capabilitiesPosture: block'];

/** What KubeArmor's own tests expect of it, in real containers. */
describe('KubeArmor’s conformance', () => {
  const settings = join(mkdtempSync('/tmp/belay-settings-'), 'agent.yaml');
  const containers = new Map<string, Container>();
  let belay: Belay;

  beforeAll(async () => {
    // for arping, and so that there is a name server and a web server
    execFileSync('modprobe', ['veth']);
    execFileSync('ip', ['link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth1']);
    execFileSync('ip', ['address', 'add', '10.98.0.2/24', 'dev', 'veth0']);
    for (const end of ['veth0', 'veth1']) execFileSync('ip', ['link', 'set', end, 'up']);
    writeFileSync(settings, 'logLevel: info\n');
    const workloads = MEMBERS.map(({ name, pod, labels, namespace = NAMESPACE }) => ({
      ...{ namespace, name: pod, container: name, labels, cgroup: cgroupOf(name) },
    }));
    const files = ubuntuFiles();
    const starting = Promise.all(
      MEMBERS.map(async (member) => containers.set(member.name, await Container.start(member, files))),
    );
    belay = await Belay.start({ workloads, flags: ['--config', settings, '--socket', SOCKET] });
    await starting;
    const server = await Container.start({ name: 'server' }, files);
    containers.set('server', server);
    await server.run('names 127.0.0.1 & cd /var/www/html; httpd httpd -p 80');
  });
  afterAll(async () => {
    await belay?.stop();
    await Promise.all([...containers.values()].map((container) => container.close()));
  });

  const outcome = (step: Case['steps'][number]) => {
    const container = containers.get(step.in);
    if (container === undefined) throw new Error(`there is no container ${step.in}`);
    return container.outcome(step);
  };
  async function configure(lines: readonly string[]): Promise<void> {
    const from = belay.log.length;
    writeFileSync(settings, ['logLevel: info', ...lines, ''].join('\n'));
    await belay.logged('changed settings are in force', from);
  }

  async function check(one: Case): Promise<void> {
    await belay.enforce(one.policies.join('---\n'));
    const before = belay.records().length;
    for (const step of one.steps)
      expect({ step, came: await outcome(step) }).toEqual({ step, came: step.outcome });
    for (const wanted of one.alerts ?? [])
      await belay
        .alert((alert) => matches(alert, wanted), before)
        .catch((error) => {
          throw new Error(`${JSON.stringify(wanted)}: ${error.message}`);
        });
    if (one.silent === undefined) return;
    // what is repeated within a second is told after it
    await sleep(1500);
    for (const unwanted of one.silent)
      expect(belay.alerts((alert) => matches(alert, unwanted), before).map(brief)).toEqual([]);
  }

  describe('ksp, with the posture block', () => {
    beforeAll(() => configure(BLOCK));
    for (const one of KSP) it(`${one.number}: ${one.name}`, () => check(one));
  });

  describe('blockposture', () => {
    it(ONLY_ITS_FILES.name, () => check(ONLY_ITS_FILES));
  });

  describe('networktests', () => {
    it(ONLY_CURL.name, () => check(ONLY_CURL));
    for (const one of NETWORK) it(one.name, () => check(one));
  });

  describe('with the posture audit', () => {
    beforeAll(() => configure([]));
    for (const [suite, cases] of Object.entries({
      ...{ smoke: SMOKE, presets: PRESETS, multicontainer: CONTAINERS, privileged: PRIVILEGED },
      ...{ 'cluster policies': NAMESPACES, dns: DNS, docker: DOCKER, syscalls: SYSCALLS },
    }))
      describe(suite, () => {
        for (const one of cases) it(one.name, () => check(one));
      });

    describe('ProbeService', () => {
      const probe = async () => {
        const caller = new Caller(`unix:${SOCKET}`, credentials.createInsecure());
        const told = await caller.ask('getProbeData', {}, 'policy.ProbeService');
        caller.close();
        return told as { containerList: string[]; containerMap: Record<string, { policyList: string[] }> };
      };
      const [packages, config] = SMOKE.map(({ policies }) => policies[0]);
      const policiesOf = async (pod: string) => (await probe()).containerMap[pod]?.policyList ?? [];

      it('lists the containers', async () => {
        expect((await probe()).containerList.toSorted()).toEqual(MEMBERS.map(({ name }) => name).toSorted());
      });

      it('lists a policy that is added', async () => {
        await belay.enforce(packages);
        expect(await policiesOf('wordpress')).toEqual(['packages']);
        expect(await policiesOf('mysql')).toEqual([]);
      });

      it('lists all of a pod’s policies', async () => {
        await belay.enforce(`${packages}---\n${config}`);
        expect((await policiesOf('wordpress')).toSorted()).toEqual(['config', 'packages']);
      });

      it('lists a policy no more that is deleted', async () => {
        await belay.enforce(config);
        expect(await policiesOf('wordpress')).toEqual(['config']);
      });
    });

    it('configmap: the posture follows the settings', async () => {
      const reads = 'cat /etc/hostname';
      await belay.enforce(ONLY_ITS_FILES.policies[0]);
      expect(await outcome(passes('mysql', reads))).toBe('passes');
      await configure(BLOCK);
      expect(await outcome(denied('mysql', reads))).toBe('denied');
      await configure([]);
      expect(await outcome(passes('mysql', reads))).toBe('passes');
    });

    it('throttling: two alerts in a second, then none for a minute while denial goes on', async () => {
      await belay.enforce(SMOKE[0].policies[0]);
      await configure(['alertThrottling: true', 'maxAlertPerSec: 2', 'throttleSec: 60']);
      const caller = new Caller(`unix:${SOCKET}`, credentials.createInsecure());
      const alerts = await caller.stream('feeder.LogService', 'WatchAlerts', { Filter: 'policy' });
      const repeatedly = denied('wordpress', 'for each in 1 2 3 4 5; do apt; done');
      expect(await outcome(repeatedly)).toBe('denied');
      let alert = await alerts.next();
      while (alert.Type !== 'SystemEvent') alert = await alerts.next();
      expect(alert).toMatchObject({
        ...{ Operation: 'AlertThreshold', ContainerName: 'wordpress' },
        ...{ MaxAlertsPerSec: 2, DroppingAlertsInterval: 60 },
      });
      caller.close();
      const before = belay.records().length;
      expect(await outcome(denied('wordpress', 'apt update'))).toBe('denied');
      await sleep(1500);
      expect(belay.alerts(({ pod }) => pod === 'wordpress', before).map(brief)).toEqual([]);
      await configure([]);
      const counted = await eventually('their number', () =>
        belay.records().find((record) => record.type === 'gap' && record.ring === 'throttled'),
      );
      expect(counted).toMatchObject({ pod: 'wordpress' });
      // five times in the loop, of which two may have been told, and one more
      expect(Number('lost' in counted && counted.lost)).toBeGreaterThan(3);
    });

    it('configmap: DropResourceFromProcessLogs', async () => {
      await belay.enforce(SMOKE[0].policies[0]);
      const caller = new Caller(`unix:${SOCKET}`, credentials.createInsecure());
      const logs = await caller.stream('feeder.LogService', 'WatchLogs', { Filter: 'system' });
      const resourceOf = async (program: string) => {
        expect(await outcome(passes('mysql', program))).toBe('passes');
        for (;;) {
          const { ProcessName, Data, Resource } = await logs.next();
          if (ProcessName === program && Data === 'syscall=SYS_EXECVE') return Resource;
        }
      };
      await configure(['visibility: process']);
      expect(await resourceOf('/usr/bin/id')).toBe('/usr/bin/id');
      await configure(['visibility: process', 'dropResourceFromProcessLogs: true']);
      expect(await resourceOf('/usr/bin/whoami')).toBe('');
      await configure([]);
      caller.close();
    });
  });
});
