import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import v8 from 'node:v8';
import { runInNewContext } from 'node:vm';
import { credentials, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventLog } from '../../agent/event/log.js';
import type { BelayRecord } from '../../agent/event/record.js';
import { loadAddon } from '../../agent/kernel/addon.js';
import { type Access, everything } from '../../agent/serve/access.js';
import { Definitions } from '../../agent/serve/definitions.js';
import { EVERYTHING } from '../../agent/serve/filter.js';
import { GrpcServer } from '../../agent/serve/grpc.js';
import { type Serving, serve } from '../../agent/serve/server.js';
import { Watch } from '../../agent/serve/watch.js';
import { recordedLog } from '../api/harness.js';
import { gapOf, logOf, STEERED, STEERING, throttleOf } from './records.js';
import { Caller, NODE } from './serve-client.js';
import { alertRecord, execOf } from './serve-records.js';

let folder: string;
let socket: string;
let events: EventLog;
let serving: Serving | undefined;
const callers: Caller[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'belay-serve-'));
  socket = join(folder, 'run/belay.sock');
  events = new EventLog({ records: 500 });
  serving = await start();
});
afterEach(async () => {
  for (const caller of callers.splice(0)) caller.close();
  await serving?.close();
  rmSync(folder, { recursive: true });
});

let dropResourceFromProcessLogs = false;
const start = (node = NODE) =>
  serve({
    ...{ node, events, log: recordedLog().log, socket: { path: socket, peer: loadAddon().peer } },
    kubeArmor: () => ({ dropResourceFromProcessLogs }),
  });

function caller(): Caller {
  const made = new Caller(`unix:${socket}`, credentials.createInsecure());
  callers.push(made);
  return made;
}

let sequence = 100;
const happen = (fields: Parameters<typeof alertRecord>[0] = {}) =>
  events.append(alertRecord({ sequence: String(++sequence), ...fields }));

describe('watching over gRPC', () => {
  it('gives records as they come, whole', async () => {
    const seen = await caller().watch({});
    const record = alertRecord({ sequence: '5', tags: ['a'] });
    events.append(record);
    expect(await seen.next()).toMatchObject(JSON.parse(JSON.stringify(record)));
  });

  it('filters by namespace, pod, type, class, policy, verdict and severity', async () => {
    const client = caller();
    const wanted = async (filter: object) => {
      const seen = await client.watch({ ...filter, after: '0', untilNow: true });
      return (await seen.all()).map(({ message }) => message);
    };
    happen({ message: 'denied' });
    happen({ message: 'bank', namespace: 'bank', pod: 'vault-0' });
    happen({ message: 'passed', verdict: 'Passed', severity: 2 });
    happen({ message: 'file', class: 'File', policy: 'read-only' });
    events.append(execOf({ sequence: String(++sequence) }));
    expect(await wanted({})).toEqual(['denied', 'bank', 'passed', 'file', '']);
    expect(await wanted({ namespaces: ['bank'] })).toEqual(['bank']);
    expect(await wanted({ pods: ['vault-0', 'none'] })).toEqual(['bank']);
    expect(await wanted({ types: ['exec'] })).toEqual(['']);
    expect(await wanted({ classes: ['File'] })).toEqual(['file']);
    events.append(logOf({ sequence: String(++sequence), namespace: 'seen' }));
    expect(await wanted({ classes: ['File'], namespaces: ['seen'] })).toEqual(['']);
    expect(await wanted({ classes: ['Network'], namespaces: ['seen'] })).toEqual([]);
    expect(await wanted({ types: ['log'] })).toEqual(['']);
    happen({ message: 'mount', class: 'Escape', namespace: 'out', policy: 'out' });
    expect(await wanted({ classes: ['escape'] })).toEqual(['mount']);
    expect(await wanted({ policies: ['read-only'] })).toEqual(['file']);
    expect(await wanted({ verdicts: ['passed'] })).toEqual(['passed']);
    expect(await wanted({ minSeverity: 3, types: ['alert'] })).toEqual(['denied', 'bank', 'file', 'mount']);
  });

  it('says which words there are when it is asked for one that there is not', async () => {
    const seen = await caller().watch({ verdicts: ['refused'] });
    await expect(seen.next()).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
    await expect(seen.next()).rejects.toThrow(/there are Passed, Denied/);
  });

  it('goes on where the caller was, and tells how many records are gone', async () => {
    for (let n = 0; n < 750; n++) happen();
    const first = sequence - 749;
    const seen = await (await caller().watch({ after: String(first + 9), untilNow: true })).all();
    expect(seen).toHaveLength(501);
    expect(seen[0]).toMatchObject({ type: 'gap', ring: 'watch', lost: '240' });
    expect(seen[1].sequence).toBe(String(sequence - 499));
  });

  it('never waits for a slow caller: what it misses is counted, and another misses nothing', async () => {
    const client = caller();
    const slow = await client.watch({ namespaces: ['shop'] });
    const quick = await caller().watch({});
    slow.pause();
    const big = 'x'.repeat(4000);
    const got: number[] = [];
    const reading = (async () => {
      while (got.length < 3000) got.push(Number((await quick.next()).sequence));
    })();
    const from = sequence;
    for (let n = 0; n < 3000; n++) {
      happen({ message: big });
      if (n % 200 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
      // the quick one is given the time that it needs
      while (n - got.length > 300) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await reading;
    expect(got).toEqual(Array.from({ length: 3000 }, (_, n) => from + 1 + n));
    slow.resume();
    happen({ message: 'end' });
    let [records, lost, gaps] = [0, 0, 0];
    for (;;) {
      const record = await slow.next();
      if (record.type === 'gap') {
        gaps++;
        lost += Number(record.lost);
      } else records++;
      if (record.message === 'end') break;
    }
    expect(gaps).toBeGreaterThan(0);
    expect(records + lost).toBe(3001);
  });

  it('forgets a caller that goes', async () => {
    const client = caller();
    await client.watch({});
    expect(events.readers).toBe(1);
    client.close();
    await expect.poll(() => events.readers).toBe(0);
  });

  it('lets so many watch, and says so to the next', async () => {
    const client = caller();
    // connections of their own: one has room for half of them
    for (let n = 0; n < 64; n++) await (n % 16 === 0 ? caller() : callers[callers.length - 1]).watch({});
    await expect((await client.watch({})).next()).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  });
});

it('holds on to nothing of a stream that has often waited for its caller', async () => {
  v8.setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const waits: WeakRef<Promise<void>>[] = [];
  let left = -1;
  const grpc = new GrpcServer(() => everything('anyone'));
  grpc.add(new Definitions(), 'belay.v1.Belay', {
    Watch: {
      stream: async (_, __, outlet) => {
        outlet.begin();
        for (let n = 0; n < 200; n++) {
          while (outlet.write(alertRecord({ message: 'x'.repeat(4000) })));
          const waiting = outlet.drained();
          waits.push(new WeakRef(waiting));
          await waiting;
        }
        await setImmediate();
        collect();
        left = waits.filter((each) => each.deref() !== undefined).length;
      },
    },
  });
  const server = createServer((connection) => grpc.take(connection));
  await new Promise<void>((resolve) => server.listen(join(folder, 'grpc.sock'), resolve));
  const client = new Caller(`unix:${join(folder, 'grpc.sock')}`, credentials.createInsecure());
  callers.push(client);
  await (await client.watch({})).all();
  expect(waits).toHaveLength(200);
  expect(left).toBeLessThan(10);
  grpc.close();
  server.close();
});

describe('of those who may not see everything', () => {
  const shop: Access = {
    ...everything('shop'),
    sees: (namespace) => namespace === 'shop',
    hides: (namespace) => namespace !== 'shop',
  };

  /** What comes after a sequence number, of records of which every other one is not theirs: sequences, and gaps' numbers. */
  async function seenBy(access: Access, filter: object = {}): Promise<string[]> {
    const log = new EventLog({ records: 4 });
    for (let n = 1; n <= 10; n++)
      log.append(alertRecord({ sequence: String(n), namespace: n % 2 ? 'shop' : 'bank' }));
    const got: string[] = [];
    const outlet = {
      ...{ gone: false, begin: () => {}, onGone: () => {}, drained: async () => {} },
      write: (record: BelayRecord) =>
        got.push(record.type === 'gap' ? `-${record.lost}` : record.sequence) > 0,
    };
    const request = { filter: { ...EVERYTHING, ...filter }, after: 2n, untilNow: true };
    await new Watch({ log, node: 'n', watchers: 1, each: 1 }).serve(access, request, outlet);
    return got;
  }

  it('nobody is told how many others’ records are gone', async () => {
    expect(await seenBy(everything('root'))).toEqual(['-4', '7', '8', '9', '10']);
    expect(await seenBy(everything('root'), { namespaces: ['shop'] })).toEqual(['-0', '7', '9']);
    expect(await seenBy(everything('root'), { minSeverity: 1 })).toEqual(['-0', '7', '8', '9', '10']);
    expect(await seenBy(shop)).toEqual(['-0', '7', '9']);
  });
});

describe('what is in force', () => {
  it('is told: policies, workloads, health, costs', async () => {
    const client = caller();
    expect(await client.ask('Policies', {})).toMatchObject({ policies: NODE.policies() });
    expect(await client.ask('Workloads', {})).toMatchObject({ workloads: NODE.workloads() });
    expect(await client.ask('Health', {})).toEqual(NODE.health());
    const asked = { namespace: 'shop', pod: 'web-1' };
    expect(await client.ask('Processes', asked)).toEqual({ processes: NODE.processes('shop', 'web-1', '') });
    expect(await client.ask('Costs', { measure: true })).toEqual(NODE.costs(true));
  });
});

describe("KubeArmor's clients", () => {
  it('read alerts and logs from a real connection', async () => {
    const client = caller();
    const alerts = await client.stream('feeder.LogService', 'WatchAlerts', { Filter: 'policy' });
    const logs = await client.stream('feeder.LogService', 'WatchLogs', { Filter: 'system' });
    happen();
    events.append(execOf({ sequence: String(++sequence) }));
    expect(await alerts.next()).toMatchObject({
      Timestamp: '1700000000',
      PolicyName: 'no-shells',
      Type: 'MatchedPolicy',
      Operation: 'Process',
      Enforcer: 'BPFLSM',
      Action: 'Block',
      Result: 'Permission denied',
      ATags: ['MITRE_T1059', 'shell'],
      Owner: { Ref: 'Deployment', Name: 'web', Namespace: 'shop' },
    });
    expect(await logs.next()).toMatchObject({ Type: 'ContainerLog', Resource: '/usr/bin/bash -c id' });
    dropResourceFromProcessLogs = true;
    events.append(execOf({ sequence: String(++sequence) }));
    expect(await logs.next()).toMatchObject({ Type: 'ContainerLog', Resource: '' });
    dropResourceFromProcessLogs = false;
  });

  it('are told among the alerts that a container has too many, and in messages how many there were', async () => {
    const client = caller();
    const alerts = await client.stream('feeder.LogService', 'WatchAlerts', { Filter: 'policy' });
    const messages = await client.stream('feeder.LogService', 'WatchMessages', { Filter: '' });
    happen();
    events.append(throttleOf({ sequence: String(++sequence) }));
    events.append(gapOf({ sequence: String(++sequence), ring: 'throttled', lost: '12' }));
    happen();
    expect(await alerts.next()).toMatchObject({ Type: 'MatchedPolicy' });
    expect(await alerts.next()).toMatchObject({
      ...{ Type: 'SystemEvent', Operation: 'AlertThreshold', ContainerName: 'nginx' },
      ...{ MaxAlertsPerSec: 2, DroppingAlertsInterval: 60 },
    });
    expect(await alerts.next()).toMatchObject({ Type: 'MatchedPolicy' });
    expect(await messages.next()).toMatchObject({ Message: expect.stringContaining('12') });
  });

  it('are answered a health check with its nonce, and told what went wrong', async () => {
    const client = caller();
    expect(await client.ask('HealthCheck', { nonce: 42 }, 'feeder.LogService')).toEqual({ Retval: 42 });
    const messages = await client.stream('feeder.LogService', 'WatchMessages', { Filter: '' });
    const time = '1700000000000000000';
    const base = { schema: 'belay.v1', time, id: 'b', sequence: '900', node: 'node-1' } as const;
    events.append({ ...base, type: 'failure', failure: 'FAILURE_BIND', count: '2' });
    expect(await messages.next()).toMatchObject({
      Level: 'WARN',
      Message: expect.stringContaining('FAILURE_BIND'),
    });
  });

  it('are told which policies reach which pods', async () => {
    const told = await caller().ask('getProbeData', {}, 'policy.ProbeService');
    expect(told).toMatchObject({
      containerList: ['nginx'],
      containerMap: { 'web-1': { policyList: ['no-shells'], policyEnabled: 1 } },
    });
  });
});

it('a container that a file lists is one to KubeArmor’s clients, and a pod that is not told apart is not', async () => {
  const [web] = NODE.workloads();
  const listed = { ...web, name: 'web-2', container: 'listed', containerId: '' };
  const untold = { ...web, name: 'web-3', container: '', containerId: '' };
  await serving?.close();
  serving = await start({ ...NODE, workloads: () => [listed, untold] });
  const told = await caller().ask('getProbeData', {}, 'policy.ProbeService');
  expect(told).toMatchObject({ containerList: ['listed'] });
  expect(Object.keys(told.containerMap as object)).toEqual(['web-2']);
});

describe('watching over HTTP', () => {
  const get = (path: string, headers: Record<string, string> = {}) =>
    new Promise<{ status?: number; type?: string; chunks: AsyncIterator<string>; end(): void }>(
      (resolve, reject) => {
        const asked = request({ socketPath: socket, path, headers, agent: false }, (response) => {
          response.setEncoding('utf8');
          resolve({
            status: response.statusCode,
            type: response.headers['content-type'],
            chunks: response[Symbol.asyncIterator](),
            end: () => asked.destroy(),
          });
        });
        asked.on('error', reject);
        asked.end();
      },
    );
  const text = async (chunks: AsyncIterator<string>) => {
    let all = '';
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) all += next.value;
    return all;
  };

  it('gives a JSON object a line', async () => {
    happen({ message: 'one\ntwo' });
    happen({ namespace: 'bank' });
    const { status: code, type, chunks } = await get('/v1/events?follow=false&namespace=shop');
    expect([code, type]).toEqual([200, 'application/x-ndjson']);
    const lines = (await text(chunks)).split('\n');
    expect(lines).toHaveLength(2);
    expect(JSON.parse(lines[0])).toMatchObject({ schema: 'belay.v1', message: 'one\ntwo' });
  });

  it.each(['application/x-ndjson', 'text/event-stream'])('steers no terminal, as %s', async (accept) => {
    happen({ object: { path: STEERING } });
    const all = await text((await get('/v1/events?follow=false', { accept })).chunks);
    expect(all).toContain(`"path":"${STEERED}"`);
    expect(JSON.parse(all.slice(all.indexOf('{')))).toMatchObject({ object: { path: STEERING } });
  });

  it('gives what is remembered first, and then what comes', async () => {
    happen({ message: 'before' });
    const { chunks, end } = await get('/v1/events');
    expect((await chunks.next()).value).toContain('"message":"before"');
    happen({ message: 'after' });
    expect((await chunks.next()).value).toContain('"message":"after"');
    end();
  });

  it('takes spans, and Unix time in nanoseconds', async () => {
    const ago = (seconds: number) => String((BigInt(Date.now()) - BigInt(seconds) * 1000n) * 1_000_000n);
    happen({ message: 'old', time: ago(7200) });
    happen({ message: 'new', time: ago(60) });
    for (const since of ['1h', ago(3600)]) {
      const lines = (await text((await get(`/v1/events?since=${since}&follow=false`)).chunks)).split('\n');
      expect(lines).toHaveLength(2);
      expect(lines[0]).toContain('"message":"new"');
    }
  });

  it('gives server-sent events, and goes on after the last one that was seen', async () => {
    happen({ message: 'seen' });
    const seen = sequence;
    happen({ message: 'new' });
    const accept = 'text/event-stream';
    const { type, chunks, end } = await get('/v1/events', { accept, 'last-event-id': String(seen) });
    expect(type).toBe(accept);
    const { value } = await chunks.next();
    expect(value).toMatch(new RegExp(`^id: ${seen + 1}\nevent: alert\ndata: \\{.*"message":"new".*\\}\n\n$`));
    end();
    await expect.poll(() => events.readers).toBe(0);
  });

  it.each([
    ['/v1/events?verdict=refused', 400, /there are Passed/],
    ['/v1/events?colour=red', 400, /no parameter/],
    ['/v1/events?after=-1', 400, /whole number/],
    ['/v1/events?since=soon', 400, /a span .*nanoseconds/],
    ['/v1/policies', 404, /GET \/v1\/events/],
  ])('says what is wrong with %s', async (path, code, what) => {
    const answer = await get(path);
    expect(answer.status).toBe(code);
    expect(await text(answer.chunks)).toMatch(what);
  });
});

describe('the unix socket', () => {
  it("is its owner's alone, in a directory that is made", () => {
    expect(statSync(socket).mode & 0o777).toBe(0o600);
  });

  it('is taken over from an agent that still listens there, and not taken away when that one ends', async () => {
    const before = serving;
    serving = await start();
    await before?.close();
    expect(existsSync(socket)).toBe(true);
    expect(await caller().ask('Health', {})).toEqual(NODE.health());
    await serving.close();
    expect(existsSync(socket)).toBe(false);
  });

  // who may connect is held by the kernel's word and not by the mode alone
  it.runIf(process.getuid?.() === 0)(
    'closes the connection of whoever is neither root nor in the group',
    async () => {
      await serving?.close();
      const group = 4242;
      serving = await serve({
        node: NODE,
        events,
        log: recordedLog().log,
        socket: { path: socket, group, peer: loadAddon().peer },
      });
      expect(statSync(socket)).toMatchObject({ gid: group });
      expect(statSync(socket).mode & 0o777).toBe(0o660);
      chmodSync(folder, 0o755);
      chmodSync(socket, 0o666);
      const script = join(folder, 'ask.mjs');
      chmodSync(folder, 0o755);
      writeFileSync(
        script,
        `import { request } from 'node:http';
       const asked = request({ socketPath: '${socket}', path: '/nothing' }, (r) => { console.log(r.statusCode); r.resume(); });
       asked.on('error', () => console.log('refused'));
       asked.end();`,
      );
      const as = (uid: string, groups: string) =>
        new Promise<string>((resolve) => {
          const ids = [
            '--reuid',
            uid,
            '--regid',
            '4343',
            ...(groups ? ['--groups', groups] : ['--clear-groups']),
          ];
          const child = spawn('setpriv', [...ids, process.execPath, script], {
            stdio: ['ignore', 'pipe', 'inherit'],
          });
          let said = '';
          child.stdout.on('data', (chunk) => {
            said += chunk;
          });
          child.on('close', () => resolve(said.trim()));
        });
      expect(await as('4343', '')).toBe('refused');
      expect(await as('4343', '4242')).toBe('404');
    },
  );

  it('survives connections that say nothing, or nonsense', async () => {
    for (const said of [
      '',
      'PRI',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense nonsense nonsense',
      '\0\0\0\0',
    ]) {
      const stranger = connect(socket);
      await new Promise((resolve) => stranger.on('connect', resolve));
      stranger.end(said);
      await new Promise((resolve) => stranger.on('close', resolve).resume());
    }
    expect(await caller().ask('Health', {})).toEqual(NODE.health());
  });
});
