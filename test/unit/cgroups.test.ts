import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CgroupBinder } from '../../agent/kernel/cgroups.js';
import type { Place, Workload } from '../../agent/workload/model.js';
import { FakeKernel } from './fake-kernel.js';

const UID = '11111111-2222-3333-4444-555555555555';
const ID = 'a'.repeat(64);
const [UNKNOWN, HOST, POD, CONTAINER] = [9, 5, 7, 8];

/** Any file system has directories with numbers, which is all that is looked at. */
let root: string;
let paths: Map<bigint, string>;
let fake: FakeKernel;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'belay-cgroups-'));
  paths = new Map();
  fake = new FakeKernel({ nameOf: (cgroup) => paths.get(cgroup) ?? '/' });
});
afterEach(() => rmSync(root, { recursive: true }));

function make(path: string): void {
  mkdirSync(join(root, path), { recursive: true });
  const parts = path.split('/');
  for (const i of parts.keys()) {
    const each = parts.slice(0, i + 1).join('/');
    paths.set(statSync(join(root, each), { bigint: true }).ino, each);
  }
}

const at = (place: Place): Workload => ({
  ...{ namespace: 'shop', name: 'web-1', container: '', containerId: '', image: '', cgroup: '' },
  ...{ labels: new Map(), place },
});
const unknown = [at({ kind: 'unknown' }), UNKNOWN] as const;
const host = [at({ kind: 'host' }), HOST] as const;
const pod = [at({ kind: 'pod', uid: UID }), POD] as const;
const container = [at({ kind: 'container', uid: UID, id: ID }), CONTAINER] as const;

const bound = () =>
  new Map([...fake.bindings].map(([cgroup, { workload }]) => [paths.get(cgroup) ?? '/', workload]));

it('pods that are there already are never bound to anyone else', () => {
  make(`kubepods.slice/pod${UID}/${ID}`);
  make('system.slice/ssh.service');
  for (const claims of [
    [unknown, host, pod, container],
    [container, pod, host, unknown],
  ]) {
    fake.bindings.clear();
    fake.calls.length = 0;
    new CgroupBinder(fake.kernel, root).claim(claims);
    expect(fake.calls.slice(0, 4).every((call) => call.startsWith('announce'))).toBe(true);
    const binds = fake.calls.slice(4);
    expect(binds.filter((call) => call.includes(`pod${UID}`))).toEqual([
      `bind kubepods.slice/pod${UID} ${POD}`,
      `bind kubepods.slice/pod${UID}/${ID} ${CONTAINER}`,
    ]);
    expect(bound().get('system.slice/ssh.service')).toBe(HOST);
    expect(bound().get('/')).toBe(HOST);
  }
});

it('pods are found wherever kubelet was told to keep them', () => {
  for (const above of ['kubepods', 'runtime/kubepods', 'kubelet.slice/kubelet-kubepods.slice', 'a/b/c/d/e']) {
    fake = new FakeKernel({ nameOf: (cgroup) => paths.get(cgroup) ?? '/' });
    const path = `${above}/pod${UID}`;
    make(path);
    new CgroupBinder(fake.kernel, root).claim([unknown]);
    expect(bound()).toEqual(new Map([[path, UNKNOWN]]));
    rmSync(join(root, above.split('/')[0]), { recursive: true });
  }
});

it('no pods are looked for among the services of the node', () => {
  make(`system.slice/x/pod${UID}`);
  new CgroupBinder(fake.kernel, root).claim([unknown]);
  expect(fake.bindings.size).toBe(0);
});

it('a pod whose cgroup comes later is bound when it is looked for again, and taken from the unknown once it is told of', () => {
  const binder = new CgroupBinder(fake.kernel, root);
  binder.claim([unknown]);
  const path = `kubepods/besteffort/pod${UID}`;
  make(`${path}/${ID}`);
  expect(binder.refresh()).toBe(true);
  expect(bound().get(`${path}/${ID}`)).toBe(UNKNOWN);
  expect(binder.refresh()).toBe(false);
  binder.claim([pod]);
  expect(bound().get(`${path}/${ID}`)).toBe(POD);
  binder.claim([container]);
  expect(bound()).toEqual(
    new Map([
      [path, POD],
      [`${path}/${ID}`, CONTAINER],
    ]),
  );
});

it('a pod that nobody claims any more stays as an agent before left it, until nothing of it runs', () => {
  const path = `kubepods/pod${UID}`;
  make(`${path}/${ID}`);
  new CgroupBinder(fake.kernel, root).claim([unknown, pod, container]);
  const before = bound();
  expect(before.get(`${path}/${ID}`)).toBe(CONTAINER);
  // one whose cgroup is gone
  fake.announcePod('gone', POD);
  fake.announceContainer('gone', CONTAINER);

  const binder = new CgroupBinder(fake.kernel, root);
  binder.claim([unknown]);
  binder.forgetOthers();
  binder.refresh();
  expect(bound()).toEqual(before);
  expect(fake.pods).toEqual(new Map([[UID, POD]]));
  expect(fake.containers).toEqual(new Map([[ID, CONTAINER]]));

  rmSync(join(root, path, ID), { recursive: true });
  binder.refresh();
  expect(fake.pods.size + fake.containers.size).toBe(0);
});
