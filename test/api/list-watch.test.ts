import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { KubeApi } from '../../agent/control/api.js';
import { type Change, ListWatch, type ListWatchOptions } from '../../agent/control/list-watch.js';
import { ControlPlane, compact, kubernetesPrograms } from './control-plane.js';
import { apiOf, eventually, MERGE, pause, QUICK, recordedLog } from './harness.js';
import { Relay } from './relay.js';

const programs = kubernetesPrograms('the tests of list-watch against a real API server');

interface Map_ {
  readonly name: string;
  readonly value: string;
}

describe.skipIf(programs === undefined)('a list-watch of config maps', () => {
  let plane: ControlPlane;
  let admin: KubeApi;
  let namespace = '';
  let count = 0;
  const closing: { close(): void }[] = [];

  beforeAll(async () => {
    plane = await ControlPlane.start({ programs: programs ?? '' });
    admin = apiOf(plane);
  });
  afterAll(() => plane?.close());
  beforeEach(async () => {
    namespace = `test-${++count}`;
    await admin.request('/api/v1/namespaces', { method: 'POST', body: { metadata: { name: namespace } } });
  });
  afterEach(() => {
    for (const each of closing.splice(0)) each.close();
  });

  const path = () => `/api/v1/namespaces/${namespace}/configmaps`;
  const create = (name: string, value = '1') =>
    admin.request(path(), { method: 'POST', body: { metadata: { name }, data: { value } } });
  const change = (name: string, value: string) =>
    admin.request(`${path()}/${name}`, { method: 'PATCH', contentType: MERGE, body: { data: { value } } });
  const remove = (name: string) => admin.request(`${path()}/${name}`, { method: 'DELETE' });

  /** What it told, as `+name=value`, `~name=value`, `-name`, and what follows from that. */
  function follow(options: Partial<ListWatchOptions<Map_>> = {}) {
    const told: string[] = [];
    const now = new Map<string, string>();
    const say = (c: Change<Map_>) => {
      if (c.type === 'deleted') {
        now.delete(c.before.name);
        return `-${c.before.name}`;
      }
      now.set(c.value.name, c.value.value);
      return `${c.type === 'added' ? '+' : '~'}${c.value.name}=${c.value.value}`;
    };
    const watch = new ListWatch<Map_>({
      api: admin,
      path: path(),
      select: ({ metadata, data }) => ({
        name: metadata.name,
        value: (data as { value?: string } | undefined)?.value ?? '',
      }),
      onChange: (changes) => told.push(...changes.map(say)),
      timing: QUICK,
      ...options,
    });
    closing.push(watch);
    return { watch, told, now };
  }

  it('tells what is there, and then every addition, change and deletion exactly once', async () => {
    await create('a');
    const { watch, told } = follow();
    await watch.synced;
    expect(told).toEqual(['+a=1']);
    await create('b');
    await change('a', '2');
    await remove('b');
    await create('b', '3');
    await eventually(
      () => told,
      () => told.length >= 5,
    );
    await pause(200);
    expect(told).toEqual(['+a=1', '+b=1', '~a=2', '-b', '+b=3']);
  });

  it('lists more than one page', async () => {
    for (let i = 0; i < 600; i += 50)
      await Promise.all(Array.from({ length: 50 }, (_, k) => create(`m${i + k}`)));
    const { watch, told, now } = follow();
    await watch.synced;
    expect(told.length).toBe(600);
    expect(now.size).toBe(600);
  });

  it('takes up a watch that was cut where it ended, without listing again', async () => {
    const relay = await Relay.to(plane.apiServer.port);
    closing.push(relay);
    const { log, lines } = recordedLog();
    await create('a');
    const { watch, told } = follow({ api: apiOf(plane, { log, lines }, relay.url) });
    await watch.synced;
    await pause(300);
    expect(relay.connections).toBe(2); // the list, the watch
    relay.cut();
    await change('a', '2');
    await create('b');
    await eventually(
      () => told,
      () => told.length >= 3,
    );
    expect(told).toEqual(['+a=1', '~a=2', '+b=1']);
    expect(relay.connections).toBe(3);
    expect(lines).toEqual([]);
  });

  it('notices a connection that has fallen silent', async () => {
    const relay = await Relay.to(plane.apiServer.port);
    closing.push(relay);
    const { watch, told } = follow({
      api: apiOf(plane, recordedLog(), relay.url),
      timing: { ...QUICK, silence: 2000 },
    });
    await watch.synced;
    await pause(300);
    relay.silent = true;
    await create('a');
    await pause(500);
    expect(told).toEqual([]);
    relay.silent = false; // what was swallowed does not come again: only a new connection brings it
    await eventually(
      () => told,
      () => told.length >= 1,
    );
    expect(told).toEqual(['+a=1']);
  });

  it('lists again when the server has forgotten its version, and tells only the differences', async () => {
    const relay = await Relay.to(plane.apiServer.port);
    closing.push(relay);
    for (const name of ['kept', 'changed', 'gone', 'made-anew']) await create(name);
    const { watch, told } = follow({ api: apiOf(plane, recordedLog(), relay.url) });
    await watch.synced;
    await pause(300);
    told.length = 0;
    relay.close();
    await change('changed', '2');
    await remove('gone');
    await remove('made-anew');
    await create('made-anew', '2');
    await create('new');
    await compact(plane.etcd);
    await plane.stopApiServer();
    // it watches etcd itself then, which has forgotten
    await plane.startApiServer(['--watch-cache=false']);
    const listed = follow(); // not the one under test: it shows that the server answers
    await listed.watch.synced;
    expect(told).toEqual([]);
    const again = await Relay.to(plane.apiServer.port, relay.port);
    closing.push(again);
    await eventually(
      () => told,
      () => told.length >= 5,
    );
    await pause(200);
    expect(told.slice(0, 2).sort()).toEqual(['-gone', '-made-anew']);
    expect(told.slice(2).sort()).toEqual(['+made-anew=2', '+new=1', '~changed=2']);
    expect(again.connections).toBe(3); // refused with 410, the list, the watch
    await plane.stopApiServer();
    await plane.startApiServer();
  });

  it('keeps what is known while the API server is away, and loses nothing', async () => {
    const { log, lines } = recordedLog();
    const api = apiOf(plane, { log, lines });
    const one = follow({ api });
    const two = follow({ api });
    await Promise.all([one.watch.synced, two.watch.synced]);
    const wanted = new Map<string, string>();
    let writing = true;
    const writer = (async () => {
      // a write that was under way when the server was killed may have been made or not
      for (let i = 0; writing; i++) {
        await create(`m${i}`).catch(() => {});
        await pause(10);
      }
    })();
    await pause(500);
    await plane.stopApiServer();
    const known = one.now.size;
    await pause(1500);
    expect(one.now.size).toBe(known);
    expect(known).toBeGreaterThan(0);
    await plane.startApiServer();
    await pause(500);
    writing = false;
    await writer;
    const list = await admin.request<{ items: { metadata: { name: string }; data: { value: string } }[] }>(
      path(),
    );
    for (const { metadata, data } of list.items) wanted.set(metadata.name, data.value);
    for (const { now, told } of [one, two]) {
      await eventually(
        () => [...now].sort(),
        (seen) => JSON.stringify(seen) === JSON.stringify([...wanted].sort()),
      );
      expect(new Set(told).size).toBe(told.length);
    }
    // for both watches together
    await eventually(
      () => lines.map(({ msg }) => msg),
      (told) => told.at(-1) === 'the Kubernetes API server answers again',
    );
    expect(lines.length).toBe(2);
    expect(lines[0]?.msg).toBe('the Kubernetes API server does not answer; what is known stays');
  });

  it('starts while the API server is away, and begins when it is there', async () => {
    await create('a');
    await plane.stopApiServer();
    const { watch, told } = follow();
    await pause(1000);
    expect(told).toEqual([]);
    await plane.startApiServer();
    await watch.synced;
    expect(told).toEqual(['+a=1']);
  });

  it('says nothing after it has been closed', async () => {
    const { watch, told } = follow();
    await watch.synced;
    watch.close();
    await create('a');
    await pause(300);
    expect(told).toEqual([]);
  });

  it('sees labels only, if asked for metadata, and only what its selectors select', async () => {
    const label = (name: string, tier: string | null) =>
      admin.request(`${path()}/${name}`, {
        method: 'PATCH',
        contentType: MERGE,
        body: { metadata: { labels: { tier } } },
      });
    await create('a');
    await create('b');
    await label('a', 'web');
    const bodies: unknown[] = [];
    const { watch, told } = follow({
      labelSelector: 'tier=web',
      metadataOnly: true,
      select: (object) => {
        bodies.push(object.data);
        return { name: object.metadata.name, value: object.kind ?? '' };
      },
    });
    await watch.synced;
    await label('b', 'web');
    await label('a', null);
    await eventually(
      () => told,
      () => told.length >= 3,
    );
    expect(told).toEqual(['+a=PartialObjectMetadata', '+b=PartialObjectMetadata', '-a']);
    expect(bodies).toEqual([undefined, undefined]);
  });
});
