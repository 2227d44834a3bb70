import { expect, it } from 'vitest';
import { Enforcer } from '../../agent/kernel/enforcer.js';
import { compile } from '../../agent/policy/compile.js';
import type { Diagnostic, Policy, Postures } from '../../agent/policy/model.js';
import { readPolicies } from '../../agent/policy/read.js';
import type { Workload } from '../../agent/workload/model.js';
import { FakeKernel } from './fake-kernel.js';

const POSTURES: Postures = { file: 'audit', network: 'audit', capabilities: 'audit' };
const PAGE = 4096;

function policy(name: string, body: string, app = 'web'): Policy {
  const text = `
apiVersion: security.belay.dev/v1
kind: WorkloadPolicy
metadata: {name: ${name}, namespace: shop}
spec: {selector: {matchLabels: {app: ${app}}}, ${body}}`;
  const { policies, diagnostics } = readPolicies(text, name);
  expect(diagnostics).toEqual([]);
  return policies[0];
}

const shells = policy('shells', 'process: {matchPaths: [{path: /bin/sh}]}');
const names = policy('names', 'network: {matchDNSQueries: [{domain: example.com}]}');
const files = Array.from({ length: 60 }, (_, i) => `{path: /srv/data/${i * 7919}/file${i}}`);
const large = policy('large', `file: {matchPaths: [${files}]}`);
/** One exec is decided by no more than 8 rules with `allowedArgs`. */
const python = (name: string) => {
  const rules = Array.from(
    { length: 5 },
    (_, i) =>
      `{path: /usr/bin/python3, allowedArgs: ["-${name}${i}"], fromSource: [{pattern: "/**/*${name}${i}*"}]}`,
  );
  return policy(name, `process: {matchPaths: [${rules}]}`);
};

const pod = (name: string, app = 'web'): Workload => ({
  ...{ namespace: 'shop', name, labels: new Map([['app', app]]), container: 'main', containerId: '' },
  ...{ image: '', cgroup: '', place: { kind: 'pod', uid: `uid-of-${name}` } },
});
const web = pod('web-1');
const other = pod('batch-1', 'batch');

/** Pages that a set of policies takes, and the one that is nobody's. */
function arenaFor(...sets: (readonly Policy[])[]): number {
  const pages = sets.map((policies) => {
    const compiled = compile(policies, POSTURES);
    if (!compiled.ok) throw new Error('it does not compile');
    return Math.ceil(compiled.set.bytes.length / PAGE);
  });
  return pages.reduce((sum, n) => sum + n, 1) * PAGE;
}

function enforcing(fake: FakeKernel, policies: readonly Policy[], workloads: readonly Workload[]) {
  const enforcer = new Enforcer(fake.kernel, POSTURES);
  enforcer.setPolicies(policies);
  const told = enforcer.setWorkloads(workloads);
  /** Of the first workload. */
  const inForce = () => [...enforcer.inForce().values()][0].map(({ name }) => name);
  const unfit = () => blamed(enforcer.coverage().unfit);
  return { enforcer, told, inForce, unfit };
}

const blamed = (diagnostics: readonly Diagnostic[]) => diagnostics.map(({ at }) => at.file);

it('a policy whose program cannot be attached leaves the others in force, and is blamed alone', () => {
  for (const policies of [
    [shells, names],
    [names, shells],
  ]) {
    const { told, inForce, unfit } = enforcing(new FakeKernel({ cannotAttach: true }), policies, [web]);
    expect(inForce()).toEqual(['shells']);
    expect(blamed(told)).toEqual(['names']);
    expect(told[0].message).toContain('operation not permitted');
    expect(unfit()).toEqual(['names']);
  }
});

it('a policy that has no room leaves the others in force, and is blamed alone', () => {
  const arena = arenaFor([shells]);
  for (const policies of [
    [shells, large],
    [large, shells],
  ]) {
    const { told, inForce, unfit } = enforcing(new FakeKernel({ arena }), policies, [web]);
    expect(inForce()).toEqual(['shells']);
    expect(blamed(told)).toEqual(['large']);
    expect(told[0].message).toContain('the arena');
    expect(unfit()).toEqual(['large']);
  }
});

it('as many policies as fit are in force, whichever do not', () => {
  const more = ['a', 'b', 'c'].map((name) => policy(name, `process: {matchPaths: [{path: /bin/${name}}]}`));
  const all = [more[0], names, more[1], python('p'), python('q'), more[2]];
  const fake = new FakeKernel({ cannotAttach: true });
  const { enforcer, told, inForce } = enforcing(fake, all, [web, pod('web-2')]);
  expect(inForce()).toEqual(['a', 'b', 'p', 'c']);
  expect(blamed(told)).toEqual(['names', 'q']);
  // what was tried on the way is given up
  expect(enforcer.sets).toBe(1);
  expect(fake.tables).toBe(1);
});

it('which of two policies is left out that do not compile together is still told after another pod has come', () => {
  const { enforcer, told, inForce, unfit } = enforcing(new FakeKernel(), [python('p'), python('q')], [web]);
  expect(inForce()).toEqual(['p']);
  expect(blamed(told)).toEqual(['q']);
  expect(unfit()).toEqual(['q']);
  expect(enforcer.setWorkloads([web, other])).toEqual([]);
  expect(unfit()).toEqual(['q']);
  enforcer.setWorkloads([other]);
  expect(unfit()).toEqual([]);
});

it('a workload keeps the tables that it has when the new ones do not fit, and what is not in force is told', () => {
  const fake = new FakeKernel({ arena: arenaFor([shells]) });
  const { enforcer, told, inForce, unfit } = enforcing(fake, [shells], [web]);
  expect(told).toEqual([]);
  fake.calls.length = 0;
  expect(blamed(enforcer.setPolicies([shells, large]))).toEqual(['large']);
  enforcer.setWorkloads([web, other]);
  expect(fake.calls.filter((call) => /^enforce 1 /.test(call))).toEqual([]);
  expect(inForce()).toEqual(['shells']);
  expect(unfit()).toEqual(['large']);
  enforcer.setPolicies([shells]);
  expect(unfit()).toEqual([]);
});

it('a policy that had no room is in force once there is some', () => {
  const batch = policy('batch', `file: {matchPaths: [${files}]}`, 'batch');
  const fake = new FakeKernel({ arena: arenaFor([shells], [shells, large]) });
  const { enforcer, inForce, unfit } = enforcing(fake, [shells, large, batch], [other, web]);
  enforcer.setWorkloads([web, other]);
  expect(unfit()).toEqual(['large']);
  expect(enforcer.setWorkloads([web])).toEqual([]);
  expect(inForce()).toEqual(['shells', 'large']);
  expect(unfit()).toEqual([]);
});

it('that policies stay in force with the postures of before, for want of room, is told', () => {
  const { enforcer, inForce, unfit } = enforcing(
    new FakeKernel({ arena: arenaFor([shells]) }),
    [shells],
    [web],
  );
  expect(blamed(enforcer.setPostures({ ...POSTURES, file: 'block' }))).toEqual(['shells']);
  expect(inForce()).toEqual(['shells']);
  expect(unfit()).toEqual(['shells']);
});

it('cgroups are claimed once all tables are in force, the node together with its pods', () => {
  const text = `
apiVersion: security.belay.dev/v1
kind: HostPolicy
metadata: {name: node}
spec: {nodeSelector: {matchLabels: {kubernetes.io/hostname: "*"}}, process: {matchPaths: [{path: /bin/sh}]}}`;
  const unknown: Workload = { ...pod('', ''), namespace: '', place: { kind: 'unknown' }, policies: [] };
  const host: Workload = { ...pod('node-1', ''), namespace: '', place: { kind: 'host' } };
  const fake = new FakeKernel();
  enforcing(fake, [shells, ...readPolicies(text, 'node').policies], [unknown, host, web]);
  const kinds = fake.calls.map((call) => call.split(' ')[0]).filter((kind) => kind !== 'bind');
  expect(kinds).toEqual(['enforce', 'enforce', 'announce', 'announce', 'announce', 'adopt']);
});

it('what an agent before left in force stays so where the policies have no room', () => {
  const fake = new FakeKernel({ arena: arenaFor([shells]) });
  fake.enforce(2, { offset: PAGE, generation: 1 });
  fake.pods.set('uid-of-web-1', 2);
  fake.usedBefore = () => new Set([2]);
  const { unfit, inForce } = enforcing(fake, [shells, large], [web]);
  expect(fake.calls.filter((call) => call.startsWith('enforce'))).toEqual(['enforce 2 tables']);
  expect(unfit()).toEqual(['shells', 'large']);
  expect(inForce()).toEqual([]);
});
