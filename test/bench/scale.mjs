// What a large cluster's agents ask of its API server:
//
//   node test/bench/scale.mjs [NODES [POLICIES]]        5000 and 500 by default; some minutes
//
// The agents are the real code (lists and watches, reports, election, status); each takes policies as read, for reading is
// no request. The API server is in this process: it stores, watches, pages, merges what is applied, refuses what is
// not of the latest version, and counts. Time is virtual: it goes on when nobody has anything left to do, so what is
// counted does not depend on how fast this machine is.
import { createHash } from 'node:crypto';
import { createRequire, syncBuiltinESMExports } from 'node:module';

/** Virtual time, in ms, in the place of all timers and of `performance.now`. */
const clock = {
  now: 0,
  due: new Map(),
  pending: 0,
  real: globalThis.setImmediate,

  at(wait, fire) {
    const time = Math.max(this.now + 1, Math.ceil((this.now + (wait || 0)) / 10) * 10);
    const timer = { fire, over: false, unref: () => timer, ref: () => timer };
    const others = this.due.get(time);
    if (others) others.push(timer);
    else this.due.set(time, [timer]);
    return timer;
  },

  /** Until all that can happen now has happened. */
  async settle() {
    do await new Promise((resolve) => this.real(resolve));
    while (this.pending > 0);
  },

  async run(ms) {
    const end = this.now + ms;
    for (await this.settle(); this.now < end; ) {
      this.now++;
      const timers = this.due.get(this.now);
      if (timers === undefined) continue;
      this.due.delete(this.now);
      for (const timer of timers) if (!timer.over) timer.fire();
      await this.settle();
    }
  },
};
const ended = (timer) => {
  if (timer) timer.over = true;
};
globalThis.setTimeout = (fire, wait, ...args) => clock.at(wait, () => fire(...args));
globalThis.setInterval = (fire, wait, ...args) => {
  const again = () => {
    fire(...args);
    if (!timer.over) clock.at(wait, again);
  };
  const timer = clock.at(wait, again);
  return timer;
};
globalThis.clearTimeout = ended;
globalThis.clearInterval = ended;
Object.defineProperty(globalThis, 'performance', { value: { now: () => clock.now } });
const promised = createRequire(import.meta.url)('node:timers/promises');
const sleep = (wait, value, { signal } = {}) =>
  new Promise((resolve, reject) => {
    const abort = () => {
      ended(timer);
      reject(signal.reason);
    };
    const timer = clock.at(wait, () => {
      signal?.removeEventListener('abort', abort);
      resolve(value);
    });
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort, { once: true });
  });
promised.setTimeout = sleep;
promised.setImmediate = () => {
  clock.pending++;
  return new Promise((resolve) =>
    clock.real(() => {
      clock.pending--;
      resolve();
    }),
  );
};
syncBuiltinESMExports();

// what takes its timers from here
const { ApiError } = await import('../../dist/control/api.js');
const { Leader } = await import('../../dist/control/leader.js');
const { ListWatch } = await import('../../dist/control/list-watch.js');
const { Namespaces } = await import('../../dist/control/namespaces.js');
const { NodeEnforcement, nodeReport } = await import('../../dist/control/node-enforcement.js');
const { OwnNode } = await import('../../dist/control/node.js');
const { NodePods } = await import('../../dist/control/pods.js');
const { collectionOf, nameOf } = await import('../../dist/control/policies.js');
const { PolicyStatuses } = await import('../../dist/control/status.js');

const NODES = Number(process.argv[2] ?? 5000);
const POLICIES = Number(process.argv[3] ?? 500);
const NAMESPACES = 100;
const PODS = 30;
/** kube-apiserver's --min-request-timeout, s: a watch lasts for that and up to as much again. */
const WATCH_S = 1800;
const BOOKMARK_MS = 60_000;

const { round } = Math;
const log = { info() {}, warn() {}, error() {} };
const uidOf = (text) => createHash('md5').update(text).digest('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

/** Objects by collection and key; who watches them; what that came to. */
class Server {
  version = 1;
  collections = new Map();
  counts = { requests: 0, events: 0, bytes: 0, kinds: new Map(), perSecond: new Map() };

  collection(path) {
    let found = this.collections.get(path);
    if (found === undefined) {
      found = { objects: new Map(), watchers: new Map() };
      this.collections.set(path, found);
    }
    return found;
  }

  /** A selector `metadata.name=x` or `spec.nodeName=x` is by what objects are filed as well. */
  put(path, key, object, by = key) {
    const { objects, watchers } = this.collection(path);
    const type = objects.has(key) ? 'MODIFIED' : 'ADDED';
    object.metadata.resourceVersion = String(++this.version);
    const entry = { object, by, size: 0 };
    objects.set(key, entry);
    for (const where of ['', by])
      for (const watcher of watchers.get(where) ?? []) watcher.push({ type, object }, this.size(entry));
    return object;
  }

  size(entry) {
    if (entry.size === 0) entry.size = JSON.stringify(entry.object).length;
    return entry.size;
  }

  count(kind, bytes) {
    const { counts } = this;
    counts.requests++;
    counts.bytes += bytes;
    counts.kinds.set(kind, (counts.kinds.get(kind) ?? 0) + 1);
    const second = Math.floor(performance.now() / 1000);
    counts.perSecond.set(second, (counts.perSecond.get(second) ?? 0) + 1);
  }

  /** What was counted since the last time. */
  take(seconds) {
    const { requests, events, bytes, kinds, perSecond } = this.counts;
    this.counts = { requests: 0, events: 0, bytes: 0, kinds: new Map(), perSecond: new Map() };
    return {
      'requests/s': round((requests / seconds) * 10) / 10,
      'peak/s': Math.max(0, ...perSecond.values()),
      'events/s': round(events / seconds),
      'MB/s': round((bytes / seconds / 1e6) * 100) / 100,
      by: Object.fromEntries([...kinds].sort((a, b) => b[1] - a[1]).map(([kind, n]) => [kind, n])),
    };
  }
}

const server = new Server();
const ABSENT = /kubearmor/;

/** As an agent sees the server; `KubeApi` is this with a network between. */
class Api {
  lost() {}
  found() {}
  forget() {}

  async request(path, { method = 'GET', query = {}, body, accept } = {}) {
    await sleep(5 + Math.random() * 45);
    if (ABSENT.test(path)) {
      server.count(`${method} ${kindOf(path)}`, 200);
      throw new ApiError(404, 'NotFound', 'no such kind');
    }
    if (method === 'GET') return this.#get(path, query, accept);
    server.count(`${method} ${kindOf(path)}`, JSON.stringify(body).length);
    return method === 'PATCH' ? this.#apply(path, body) : this.#write(path, method, body);
  }

  #get(path, { fieldSelector, limit, continue: next }, accept = '') {
    const { objects } = server.collection(path);
    if (objects.size === 0 && !isCollection(path)) {
      const at = path.lastIndexOf('/');
      const found = server.collection(path.slice(0, at)).objects.get(path.slice(at + 1));
      server.count(`GET ${kindOf(path)}`, found ? server.size(found) : 200);
      if (found === undefined) throw new ApiError(404, 'NotFound', path);
      return structuredClone(found.object);
    }
    const by = fieldSelector?.split('=')[1];
    let entries = by === undefined ? [...objects.values()] : (server.collection(path).index?.get(by) ?? [...objects.values()].filter((entry) => entry.by === by));
    const version = String(server.version);
    let more;
    if (limit !== undefined && by === undefined) {
      const from = Number(next ?? 0);
      more = from + limit < entries.length ? String(from + limit) : undefined;
      entries = entries.slice(from, from + limit);
    }
    const bytes = entries.reduce((sum, entry) => sum + (accept.includes('Metadata') ? 600 : server.size(entry)), 100);
    server.count(`LIST ${kindOf(path)}`, bytes);
    return { metadata: { resourceVersion: version, continue: more }, items: entries.map(({ object }) => object) };
  }

  #apply(path, body) {
    const [, collection, key] = /^(.*)\/([^/]+?)(?:\/status)?$/.exec(path.replace(/\/status$/, ''));
    const at = collection.replace(/\/namespaces\/[^/]+(?=\/workloadpolicies$)/, '');
    const all = server.collection(at);
    const name = at.endsWith('/workloadpolicies') ? `${body.metadata.namespace}/${key}` : key;
    const before = all.objects.get(name)?.object;
    const made = before ?? { ...body, metadata: { ...body.metadata, uid: uidOf(`${at}${name}`), creationTimestamp: now() } };
    const object = { ...made, metadata: { ...made.metadata } };
    if (body.status !== undefined) object.status = body.status;
    return server.put(at, name, object);
  }

  #write(path, method, body) {
    const collection = method === 'PUT' ? path.slice(0, path.lastIndexOf('/')) : path;
    const { objects } = server.collection(collection);
    const before = objects.get(body.metadata.name)?.object;
    if (method === 'POST' ? before !== undefined : before?.metadata.resourceVersion !== body.metadata.resourceVersion)
      throw new ApiError(409, 'Conflict', 'somebody was quicker');
    return structuredClone(server.put(collection, body.metadata.name, structuredClone(body)));
  }

  async stream(path, { query = {}, signal } = {}) {
    await sleep(5 + Math.random() * 45);
    server.count(`WATCH ${kindOf(path)}`, 100);
    const { watchers, objects } = server.collection(path);
    const by = query.fieldSelector?.split('=')[1] ?? '';
    const set = watchers.get(by) ?? new Set();
    watchers.set(by, set);
    return events(set, signal, path, [...objects.values()].filter(({ object, by: filed }) => (by === '' || by === filed) && Number(object.metadata.resourceVersion) > Number(query.resourceVersion)));
  }
}

async function* events(set, signal, path, missed) {
  const queue = missed.map(({ object }) => ({ type: 'MODIFIED', object }));
  let wake = () => {};
  const watcher = {
    push(event, bytes) {
      server.counts.events++;
      server.counts.bytes += bytes;
      queue.push(event);
      wake();
    },
  };
  set.add(watcher);
  // it ends at any time, as if the agents had been there for long
  const ends = performance.now() + Math.random() * 1.5 * WATCH_S * 1000;
  const bookmark = setInterval(() => watcher.push({ type: 'BOOKMARK', object: { metadata: { resourceVersion: String(server.version) } } }, 150), BOOKMARK_MS * (0.8 + Math.random() * 0.4));
  const stop = () => wake();
  signal?.addEventListener('abort', stop);
  try {
    while (!signal?.aborted && performance.now() < ends) {
      for (const event of queue.splice(0)) yield event;
      await new Promise((resolve) => {
        wake = resolve;
        if (queue.length > 0) resolve();
      });
    }
  } finally {
    set.delete(watcher);
    clearInterval(bookmark);
    signal?.removeEventListener('abort', stop);
  }
}

const now = () => `${new Date().toISOString().slice(0, 19)}Z`;
const isCollection = (path) => /\/(pods|nodes|namespaces|[a-z]+policies|nodeenforcements|customresourcedefinitions)$/.test(path);
const kindOf = (path) => /(pods|nodeenforcements|nodes|leases|[a-z]+policies|customresourcedefinitions|namespaces)(?!.*(pods|nodes|policies|leases))/.exec(path)?.[1] ?? path;

// --- what there is

const POLICY = collectionOf('WorkloadPolicy');
const states = new Map();
const policies = [];
for (let i = 0; i < POLICIES; i++) {
  const metadata = { name: `policy-${i}`, namespace: `team-${i % NAMESPACES}`, uid: uidOf(`policy ${i}`), generation: 1, creationTimestamp: now() };
  const paths = Array.from({ length: 12 }, (_, n) => ({ path: `/usr/local/bin/tool-${i}-${n}`, ownerOnly: n % 5 === 0 }));
  const spec = { selector: { matchLabels: { app: `app-${i}` } }, severity: 5, message: 'not here', action: 'Block', process: { matchPaths: paths } };
  server.put(POLICY, `${metadata.namespace}/${metadata.name}`, { apiVersion: 'security.belay.dev/v1', kind: 'WorkloadPolicy', metadata, spec });
  take(metadata);
}
function take({ namespace, name, uid, generation }) {
  const ref = { apiVersion: 'security.belay.dev/v1', kind: 'WorkloadPolicy', namespace, name, uid, generation };
  if (!states.has(uid)) {
    policies.push({ at: { file: nameOf(ref) } });
  }
  states.set(uid, { ref, accepted: true, generationInForce: generation, diagnostics: [] });
}
for (let i = 0; i < NAMESPACES; i++) server.put('/api/v1/namespaces', `team-${i}`, { metadata: { name: `team-${i}`, uid: uidOf(`ns ${i}`) } });
const nodeName = (i) => `ip-10-0-${i >> 8}-${i & 255}.eu-central-1.compute.internal`;
const pods = server.collection('/api/v1/pods');
pods.index = new Map();
for (let i = 0; i < NODES; i++) {
  const name = nodeName(i);
  server.put('/api/v1/nodes', name, { metadata: { name, uid: uidOf(name), labels: { 'kubernetes.io/hostname': name } } });
  // of all pods alike but for their names
  const entries = Array.from({ length: PODS }, (_, n) => ({ by: name, size: 4000, object: podOf(i, n, name) }));
  pods.index.set(name, entries);
}
function podOf(i, n, node) {
  const name = `app-${n}-${i}`;
  return { metadata: { name, namespace: `team-${n}`, uid: uidOf(name), resourceVersion: '1', labels: { app: name } }, spec: { nodeName: node, containers: [{ name: 'main', image: 'x' }] }, status: {} };
}

// --- the agents

class Agent {
  api = new Api();
  closed = [];

  constructor(i) {
    const { api } = this;
    const node = nodeName(i);
    const onChange = () => {};
    const definition = (kind) => ({ api, metadataOnly: true, path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', fieldSelector: `metadata.name=${kind}`, select: () => 0, onChange });
    this.closed.push(new NodePods({ api, node, onChange }), new Namespaces({ api, onChange }), new OwnNode({ api, node, onChange }));
    const changed = () => this.node.changed();
    // every policy reaches a workload here: the worst there is
    const coverage = () => ({ workloads: new Map(policies.map((policy) => [policy, 2])), unfit: [] });
    const known = { policies, states };
    const identity = { node, agentVersion: '1.0.0', kernel: '6.12.0-amd64', absentHooks: [] };
    this.node = new NodeEnforcement({ api, node, report: () => nodeReport(identity, known, coverage()) });
    for (const kind of ['WorkloadPolicy', 'ClusterWorkloadPolicy', 'HostPolicy', 'KubeArmorPolicy', 'KubeArmorClusterPolicy', 'KubeArmorHostPolicy']) {
      const absent = ABSENT.test(collectionOf(kind));
      if (absent) this.closed.push(new ListWatch(definition(kind)));
      const select = ({ metadata }, before) => (before === metadata.generation ? before : metadata.generation);
      if (absent) void api.request(collectionOf(kind)).catch(() => {});
      else this.closed.push(new ListWatch({ api, path: collectionOf(kind), select, onChange: changed }));
    }
    this.leader = new Leader({
      ...{ api, log, namespace: 'belay', identity: node, nodes: () => this.statuses?.nodes ?? 0 },
      onGain: () => {
        leader = this;
        this.statuses = new PolicyStatuses({ api, known, leading: () => this.leader.leading });
      },
      onLose: () => this.statuses?.close(),
    });
  }

  async close() {
    for (const each of this.closed) each.close();
    this.node.close();
    await this.leader.close();
    this.statuses?.close();
  }
}

let leader;
const results = {};
async function phase(name, seconds, before = async () => {}) {
  server.take(1);
  const start = clock.now;
  await before();
  const left = start + seconds * 1000 - clock.now;
  if (left > 0) await clock.run(left);
  results[name] = server.take((clock.now - start) / 1000);
  console.log(`${name}: ${JSON.stringify(results[name])}`);
}

/** How many policies' status says that their present generation is enforced on all nodes. */
function told() {
  return [...server.collection(POLICY).objects.values()].filter(({ object: { status, metadata } }) => status?.enforced === `${NODES}/${NODES}` && status.observedGeneration === metadata.generation).length;
}
async function untilTold(most = 1800) {
  const start = clock.now;
  while (clock.now - start < most * 1000) {
    if (told() === POLICIES) return round((clock.now - start) / 1000);
    await clock.run(1000);
  }
  return Number.NaN;
}
function change(count) {
  for (const [key, { object }] of [...server.collection(POLICY).objects].slice(0, count)) {
    const metadata = { ...object.metadata, generation: object.metadata.generation + 1 };
    take(metadata);
    server.put(POLICY, key, { ...object, metadata });
  }
}

const agents = [];
await phase('all agents start, within a minute', 60, async () => {
  for (let second = 0; second < 60; second++) {
    while (agents.length < (NODES * (second + 1)) / 60) agents.push(new Agent(agents.length));
    await clock.run(1000);
  }
});
await phase('the next two minutes', 120);
console.log(`all policies' status whole after ${await untilTold()} s more`);
await phase('nothing changes', 300);
await phase('one policy changes', 60, async () => {
  change(1);
  console.log(`its status whole after ${await untilTold()} s`);
});
await phase('nothing changes again', 60);
await phase('all policies change at once', 60, async () => {
  change(POLICIES);
  console.log(`all status whole after ${await untilTold()} s`);
});
await phase('the leader is killed', 120, async () => {
  const dead = leader;
  dead.leader.close = () => {};
  dead.api.request = () => new Promise(() => {});
  for (let second = 0; second < 120 && leader === dead; second++) await clock.run(1000);
  console.log(`another leads after ${leader === dead ? 'more than 120' : 'less than 120'} s`);
});
const sizes = (path) => {
  const all = [...server.collection(path).objects.values()].map((entry) => server.size(entry));
  return { objects: all.length, largest: Math.max(...all) };
};
console.log(`NodeEnforcement ${JSON.stringify(sizes('/apis/security.belay.dev/v1/nodeenforcements'))}`);
console.log(`WorkloadPolicy ${JSON.stringify(sizes(POLICY))}`);
const status = [...server.collection(POLICY).objects.values()][0].object.status;
console.log(`a policy's status: ${JSON.stringify(status).length} bytes`);
console.log(`this process: ${round(process.memoryUsage().rss / 1e6)} MB`);
process.exit(0);
