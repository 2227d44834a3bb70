import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { KubeApi } from '../../agent/control/api.js';
import { type Change, ListWatch, type ListWatchOptions } from '../../agent/control/list-watch.js';

/**
 * What a real API server cannot be made to do when it is wanted (test/api has the rest): a server that answers
 * one request after another as it is told.
 */
type Answer = (response: ServerResponse, request: IncomingMessage) => void;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function follow(answers: Answer[], options: Partial<ListWatchOptions<string>> = {}) {
  const asked: { path: string; at: number }[] = [];
  const server = createServer((request, response) => {
    asked.push({ path: request.url ?? '', at: performance.now() });
    // who asks beyond the script waits for ever
    answers.shift()?.(response, request);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const kube = new KubeConfig();
  const cluster = {
    name: 'fake',
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}/prefix/`,
  };
  kube.loadFromClusterAndUser({ ...cluster, skipTLSVerify: true }, { name: 'me', token: 'secret' });
  const lines: { msg: string; level: number }[] = [];
  const log = pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const told: string[] = [];
  const say = (c: Change<string>) => (c.type === 'deleted' ? `-${c.before}` : `${c.type[0]}${c.value}`);
  const watch = new ListWatch<string>({
    api: new KubeApi(kube, log),
    path: '/api/v1/things',
    select: ({ metadata }) => `${metadata.name}:${metadata.resourceVersion}`,
    onChange: (changes) => told.push(...changes.map(say)),
    timing: { firstWait: 20, longestWait: 50 },
    ...options,
  });
  closing.push(() => watch.close());
  const until = async (holds: () => boolean) => {
    for (let i = 0; !holds(); i++) {
      if (i > 500) throw new Error(JSON.stringify({ told, asked, lines }));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  const query = (i: number) => new URL(asked[i]?.path ?? '', 'http://x').searchParams;
  return { watch, told, asked, lines, until, query };
}

const thing = (name: string, resourceVersion: string) => ({ metadata: { name, uid: name, resourceVersion } });

const json =
  (status: number, body: unknown, headers = {}): Answer =>
  (response) =>
    response.writeHead(status, headers).end(JSON.stringify(body));

const list = (resourceVersion: string, names: Record<string, string>, next?: string): Answer =>
  json(200, {
    kind: 'ThingList',
    metadata: { resourceVersion, ...(next && { continue: next }) },
    items: Object.entries(names).map(([name, version]) => thing(name, version)),
  });

const status = (code: number, reason: string) => ({ kind: 'Status', code, reason, message: reason });

/** A watch that says this and stays open. */
const watching =
  (...events: unknown[]): Answer =>
  (response) => {
    response.writeHead(200).flushHeaders();
    for (const event of events) response.write(`${JSON.stringify(event)}\n`);
  };

const ending =
  (...events: unknown[]): Answer =>
  (response) =>
    response.end(events.map((event) => `${JSON.stringify(event)}\n`).join(''));

describe('a list-watch', () => {
  it('lists again after 410 as the answer to a watch, and as an event of one', async () => {
    const { told, asked, lines, until } = await follow([
      list('5', { a: '1', b: '2' }),
      json(410, status(410, 'Expired')),
      list('9', { a: '1', b: '7' }),
      watching({ type: 'ERROR', object: status(410, 'Expired') }),
      list('12', { b: '7', c: '11' }),
      watching(),
    ]);
    await until(() => asked.length === 6);
    expect(told).toEqual(['aa:1', 'ab:2', 'cb:7', '-a:1', 'ac:11']);
    expect(lines).toEqual([]);
  });

  it('begins a list anew whose next page is asked for too late', async () => {
    const { told, asked, until, query } = await follow([
      list('5', { a: '1' }, 'token'),
      json(410, status(410, 'Expired')),
      list('6', { a: '1' }, 'other'),
      list('6', { b: '2' }),
      watching(),
    ]);
    await until(() => asked.length === 5);
    expect([0, 1, 2, 3].map((i) => query(i).get('continue'))).toEqual([null, 'token', null, 'other']);
    expect(told).toEqual(['aa:1', 'ab:2']);
  });

  it('goes on from the last bookmark or event', async () => {
    const { asked, until, query } = await follow([
      list('5', {}),
      ending({ type: 'BOOKMARK', object: thing('', '8') }),
      ending({ type: 'ADDED', object: thing('a', '9') }),
      watching(),
    ]);
    await until(() => asked.length === 4);
    expect([1, 2, 3].map((i) => query(i).get('resourceVersion'))).toEqual(['5', '8', '9']);
    expect(query(1).get('allowWatchBookmarks')).toBe('true');
    expect(asked[0]?.path).toMatch(/^\/prefix\/api\/v1\/things\?/);
  });

  it('asks for what is in memory first, and then for nothing older than it knows', async () => {
    const { asked, until, query } = await follow(
      [
        list('5', {}),
        json(410, status(410, 'Gone')),
        json(504, status(504, 'Timeout')), // as new as that it cannot become
        list('2', {}),
        watching(),
      ],
      { fromMemory: true },
    );
    await until(() => asked.length === 5);
    expect([0, 2, 3, 4].map((i) => query(i).get('resourceVersion'))).toEqual(['0', '5', null, '2']);
    expect(query(0).has('limit')).toBe(false);
  });

  it('takes up the watch again after a line that is no JSON, or breaks off', async () => {
    const { told, asked, until, query } = await follow([
      list('5', {}),
      (response) => response.end(`${JSON.stringify({ type: 'ADDED', object: thing('a', '6') })}\n<html>\n`),
      (response) => {
        response.write(`${JSON.stringify({ type: 'ADDED', object: thing('b', '7') })}\n{"type":`);
        setTimeout(() => response.destroy(), 50);
      },
      watching(),
    ]);
    await until(() => asked.length === 4);
    expect(told).toEqual(['aa:6', 'ab:7']);
    expect(query(3).get('resourceVersion')).toBe('7');
  });

  it('reads letters that come in pieces', async () => {
    const bytes = Buffer.from(`${JSON.stringify({ type: 'ADDED', object: thing('naïve-日本', '6') })}\n`);
    const { told, until } = await follow([
      list('5', {}),
      async (response) => {
        response.writeHead(200);
        for (const byte of bytes) {
          response.write(Buffer.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
      },
    ]);
    await until(() => told.length === 1);
    expect(told).toEqual(['anaïve-日本:6']);
  });

  it('waits longer and longer, and as long as the server asks', async () => {
    const { asked, until } = await follow(
      [
        json(429, status(429, 'TooManyRequests'), { 'retry-after': '1' }),
        json(500, status(500, 'InternalError')),
        json(500, status(500, 'InternalError')),
        list('5', {}),
        watching(),
      ],
      { timing: { firstWait: 1, longestWait: 1 } },
    );
    await until(() => asked.length === 5);
    expect((asked[1]?.at ?? 0) - (asked[0]?.at ?? 0)).toBeGreaterThan(990);
    expect((asked[3]?.at ?? 0) - (asked[1]?.at ?? 0)).toBeLessThan(500);
  });

  it('does not hammer a server that ends every watch at once', async () => {
    const { asked } = await follow([list('5', {}), ...Array.from({ length: 1000 }, () => ending())], {
      timing: { firstWait: 100, longestWait: 100 },
    });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(asked.length).toBeGreaterThan(3);
    expect(asked.length).toBeLessThan(100);
  });

  it('keeps what it knows of a collection that is missing, and says that it is', async () => {
    let missing = 0;
    const { told, watch, asked, lines, until } = await follow(
      [
        list('5', { a: '1' }),
        json(404, status(404, 'NotFound')),
        (response) => response.writeHead(404).end('404 page not found'),
        list('9', { a: '1' }),
        watching(),
      ],
      { onMissing: () => missing++, timing: { firstWait: 100_000, longestWait: 100_000 } },
    );
    await watch.synced;
    for (const times of [1, 2]) {
      await until(() => missing === times);
      await new Promise((resolve) => setTimeout(resolve, 50));
      watch.retry();
    }
    await until(() => asked.length === 5);
    expect(told).toEqual(['aa:1']);
    expect(lines).toEqual([]);
  });

  it('tells once that it is refused, and that it no longer is', async () => {
    const no = json(403, status(403, 'Forbidden'));
    const { asked, lines, until } = await follow([no, no, no, list('5', {}), watching()]);
    await until(() => asked.length === 5);
    expect(lines.map(({ msg }) => msg)).toEqual([
      'the Kubernetes API server refuses',
      'the Kubernetes API server no longer refuses',
    ]);
  });
});
