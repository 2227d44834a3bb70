import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KubeApi } from '../../agent/control/api.js';
import { LastGood } from '../../agent/control/last-good.js';
import { ClusterPolicies, collectionOf } from '../../agent/control/policies.js';

const UID = '11111111-2222-3333-4444-555555555555';
const OTHER = '22222222-2222-3333-4444-555555555555';
const BAD = 'not/absolute';

/** An API server that has WorkloadPolicies and no other kind; the real one's are followed in test/api. */
let server: Server;
let policies: Map<string, object>;
let watches: Set<ServerResponse>;
let version: number;
let folder: string;
let directory: string;
let logged: { level: number; msg: string }[];
let agents: ClusterPolicies[];

beforeEach(async () => {
  policies = new Map();
  watches = new Set();
  version = 1;
  logged = [];
  agents = [];
  folder = mkdtempSync(join(tmpdir(), 'belay-last-good-'));
  directory = join(folder, 'spool', '.policies');
  server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://x');
    const ours = pathname === collectionOf('WorkloadPolicy');
    if (!ours && !pathname.includes('customresourcedefinitions')) response.writeHead(404).end('{}');
    else if (searchParams.has('watch')) {
      response.writeHead(200).flushHeaders();
      if (ours) watches.add(response);
    } else {
      const items = ours ? [...policies.values()] : [];
      response.end(JSON.stringify({ metadata: { resourceVersion: String(version) }, items }));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  await Promise.all(agents.map((agent) => agent.close()));
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true });
});

const log = () => pino({ base: null }, { write: (line: string) => logged.push(JSON.parse(line)) });

async function start(): Promise<ClusterPolicies> {
  const kube = new KubeConfig();
  const { port } = server.address() as AddressInfo;
  kube.loadFromClusterAndUser(
    { name: 'fake', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
    { name: 'me' },
  );
  const agent = new ClusterPolicies({
    ...{ api: new KubeApi(kube, log()), log: log(), directory, onChange: () => {} },
    postures: { file: 'audit', network: 'audit', capabilities: 'audit' },
  });
  agents.push(agent);
  await agent.synced;
  await expect.poll(() => watches.size).toBeGreaterThan(0);
  return agent;
}

async function stop(agent: ClusterPolicies): Promise<void> {
  await agent.close();
  watches.clear();
}

function tell(type: string, object: unknown): void {
  for (const watch of watches) watch.write(`${JSON.stringify({ type, object })}\n`);
}

function put(generation: number, path: string, uid = UID): void {
  const metadata = { name: `web-${uid[0]}`, namespace: 'shop', uid, generation };
  const spec = { selector: { matchLabels: { app: 'web' } }, process: { matchPaths: [{ path }] } };
  const object = { metadata: { ...metadata, resourceVersion: String(++version) }, spec };
  tell(policies.has(uid) ? 'MODIFIED' : 'ADDED', object);
  policies.set(uid, object);
}

/** What is in force: the generation that is said to be, and the paths that are. */
const inForce = (agent: ClusterPolicies, uid = UID) => [
  agent.states.get(uid)?.generationInForce,
  ...agent.policies
    .filter(({ at }) => at.file.endsWith(`/web-${uid[0]}`))
    .flatMap(({ rules }) =>
      rules.map((rule) => ('match' in rule && rule.match && 'path' in rule.match ? rule.match.path : '')),
    ),
];
/** The files that there are, and the generation in one. */
const files = () => readdirSync(directory).sort();
const kept = (uid: string) => JSON.parse(readFileSync(join(directory, uid), 'utf8')).generation;
const seen = (agent: ClusterPolicies, generation: number) =>
  expect.poll(() => agent.states.get(UID)?.ref.generation).toBe(generation);

/** An agent that has seen a good version and then a bad one, and has ended. */
async function rejected(): Promise<void> {
  put(1, '/bin/sh');
  const agent = await start();
  expect(inForce(agent)).toEqual([1, '/bin/sh']);
  put(2, BAD);
  await seen(agent, 2);
  await stop(agent);
}

it('the last good version of a policy that was rejected is in force again with the next agent, and the one after', async () => {
  await rejected();
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  expect(statSync(join(directory, UID)).mode & 0o777).toBe(0o600);
  for (let i = 0; i < 2; i++) {
    const agent = await start();
    expect(inForce(agent)).toEqual([1, '/bin/sh']);
    expect(agent.states.get(UID)).toMatchObject({ accepted: false, ref: { generation: 2 + i } });
    // another bad version leaves it there
    put(3 + i, `${BAD}/${i}`);
    await seen(agent, 3 + i);
    expect(inForce(agent)).toEqual([1, '/bin/sh']);
    await stop(agent);
  }
});

it('a policy whose bad version came while no agent ran stays in force as the agent before saw it', async () => {
  put(1, '/bin/sh');
  const agent = await start();
  put(2, '/bin/bash');
  await seen(agent, 2);
  await stop(agent);
  put(3, BAD);
  const next = await start();
  expect(inForce(next)).toEqual([2, '/bin/bash']);
  expect(next.states.get(UID)).toMatchObject({ accepted: false, ref: { generation: 3 } });
});

it('nothing is kept of a policy that is gone', async () => {
  await rejected();
  const agent = await start();
  expect(files()).toEqual([UID]);
  put(3, '/bin/bash');
  await expect.poll(() => inForce(agent)).toEqual([3, '/bin/bash']);
  await expect.poll(() => kept(UID)).toBe(3);
  tell('DELETED', policies.get(UID));
  await expect.poll(() => agent.states.size).toBe(0);
  await expect.poll(files).toEqual([]);
});

it('a version is written once', async () => {
  put(1, '/bin/sh');
  await stop(await start());
  const { ino } = statSync(join(directory, UID));
  const agent = await start();
  put(1, '/bin/sh');
  put(1, '/bin/sh', OTHER);
  await expect.poll(() => agent.states.size).toBe(2);
  await stop(agent);
  expect([files(), statSync(join(directory, UID)).ino]).toEqual([[UID, OTHER], ino]);
});

it('a thousand versions at once are written one by one, and nobody waits', async () => {
  const lastGood = new LastGood(directory, log());
  const uidOf = (i: number) => UID.replace(/^1{8}/, String(i).padStart(8, '0'));
  for (let i = 0; i < 1000; i++) lastGood.set(uidOf(i), { generation: 1, text: 'a' });
  expect(files().length).toBeLessThan(2);
  for (let i = 0; i < 1000; i += 2) lastGood.delete(uidOf(i));
  lastGood.set(uidOf(1), { generation: 2, text: 'b' });
  await lastGood.written();
  expect(files().length).toBe(500);
  expect(kept(uidOf(1))).toBe(2);
});

it('a file that an agent was killed over is cleared away', async () => {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, `${UID}.new`), '{"gen');
  writeFileSync(join(directory, 'not-ours.new'), '');
  await start();
  expect(files()).toEqual(['not-ours.new']);
});

it('a version is told of together with what is in force of it, never before', async () => {
  put(1, '/bin/sh');
  const agent = await start();
  const told = (generation: number) =>
    expect.poll(() => agent.states.get(UID)?.ref.generation, { interval: 1 }).toBe(generation);
  put(2, '/bin/bash');
  await told(2);
  expect(inForce(agent)).toEqual([2, '/bin/bash']);
  put(3, BAD);
  await told(3);
  expect(agent.states.get(UID)?.accepted).toBe(false);
  expect(inForce(agent)).toEqual([2, '/bin/bash']);
});

it('a policy that was accepted again while no agent ran is in force as it is', async () => {
  await rejected();
  put(3, '/bin/bash');
  expect(inForce(await start())).toEqual([3, '/bin/bash']);
  await expect.poll(() => kept(UID)).toBe(3);
});

it('a policy that was deleted while no agent ran is gone', async () => {
  await rejected();
  policies.clear();
  const agent = await start();
  expect([agent.policies, agent.states.size]).toEqual([[], 0]);
  await expect.poll(files).toEqual([]);
});

it('what cannot be read or written is said, and costs nothing else', async () => {
  await rejected();
  put(1, '/bin/sh', OTHER);
  writeFileSync(join(directory, UID), '{"generation":1,"te');
  writeFileSync(join(directory, '..', 'elsewhere'), '');
  const agent = await start();
  expect(inForce(agent)).toEqual([undefined]);
  expect(inForce(agent, OTHER)).toEqual([1, '/bin/sh']);
  await stop(agent);
  expect(logged.filter(({ level, msg }) => level === 40 && /may not outlive/.test(msg)).length).toBe(1);

  rmSync(directory, { recursive: true });
  writeFileSync(directory, 'no directory');
  const next = await start();
  put(2, BAD, OTHER);
  await expect.poll(() => next.states.get(OTHER)?.ref.generation).toBe(2);
  expect(inForce(next, OTHER)).toEqual([1, '/bin/sh']);
  await stop(next);
  expect(logged.filter(({ level, msg }) => level === 40 && /may not outlive/.test(msg)).length).toBe(3);
});

it('what is no UID becomes no name of a file', () => {
  mkdirSync(directory, { recursive: true });
  const lastGood = new LastGood(directory, log());
  for (const uid of ['../../escaped', '', '.', UID.toUpperCase().replace(/1/g, 'G'), `${UID}/x`])
    lastGood.set(uid, { generation: 1, text: '' });
  expect([lastGood.uids, readdirSync(directory), readdirSync(folder)]).toEqual([[], [], ['spool']]);
});
