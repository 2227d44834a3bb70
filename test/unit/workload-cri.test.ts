import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type MethodDefinition, Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Cri } from '../../agent/workload/cri.js';

/**
 * A runtime that is neither containerd nor of this machine: it knows some versions of the interface, and perhaps tells
 * of events. The real containerd's is followed in test/cluster.
 */
class Runtime {
  readonly #server = new Server();
  readonly #streams = new Set<ServerWritableStream<unknown, unknown>>();
  sandboxes: string[] = [];
  containers: string[] = [];
  /** Of the containers. */
  exited: string[] = [];
  lists = 0;

  constructor(versions: readonly string[], events: boolean) {
    for (const version of versions) {
      const path = (name: string) => `/runtime.${version}.RuntimeService/${name}`;
      const method = (name: string, responseStream: boolean): MethodDefinition<unknown, Buffer> => ({
        ...{ path: path(name), requestStream: false, responseStream },
        ...{ requestSerialize: () => Buffer.of(), requestDeserialize: () => ({}) },
        ...{ responseSerialize: (bytes) => bytes, responseDeserialize: (bytes) => bytes },
      });
      const unary = (name: string, answer: () => Buffer) =>
        this.#server.addService(
          { [name]: method(name, false) },
          { [name]: (_: unknown, done: (e: null, v: Buffer) => void) => done(null, answer()) },
        );
      unary('Version', () => Buffer.concat([field(1, '0.1.0'), field(2, 'cri-o'), field(3, '1.30.0')]));
      unary('ListPodSandbox', () => Buffer.concat(this.sandboxes.map((id) => field(1, sandbox(id)))));
      unary('ListContainers', () => {
        this.lists++;
        return Buffer.concat(this.containers.map((id) => field(1, container(id, this.exited.includes(id)))));
      });
      if (!events) continue;
      this.#server.addService(
        { GetContainerEvents: method('GetContainerEvents', true) },
        {
          GetContainerEvents: (call: ServerWritableStream<unknown, unknown>) => void this.#streams.add(call),
        },
      );
    }
  }

  listen(socket: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
  }

  tell(id: string): void {
    for (const stream of this.#streams) stream.write(field(1, id));
  }

  close(): void {
    this.#server.forceShutdown();
  }
}

/** A field of text or of a message, as protobuf writes it. */
function field(number: number, value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(...varint((number << 3) | 2), ...varint(bytes.length)), bytes]);
}
function varint(n: number): number[] {
  return n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)];
}

// numbers of the published interface: https://github.com/kubernetes/cri-api
const sandbox = (id: string) => Buffer.concat([field(1, id), field(2, field(2, `uid-of-${id}`))]);
const label = (name: string, value: string) => field(8, Buffer.concat([field(1, name), field(2, value)]));
const EXITED = 2;
const container = (id: string, exited: boolean) =>
  Buffer.concat([
    field(1, id),
    field(3, field(1, `name-${id}`)),
    field(4, Buffer.concat([field(1, 'sha256:1'), field(18, `image-${id}`)])),
    field(5, 'sha256:1'),
    exited ? Buffer.of(6 << 3, EXITED) : Buffer.of(),
    label('io.kubernetes.container.name', `name-${id}`),
    label('io.kubernetes.pod.uid', 'uid-of-pod'),
  ]);

let folder: string;
let socket: string;
let logged: { msg: string; level: number }[];
let changes: number;
let closing: (() => unknown)[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-cri-'));
  socket = join(folder, 'cri.sock');
  logged = [];
  changes = 0;
  closing = [];
});
afterEach(async () => {
  for (const close of closing.reverse()) await close();
  rmSync(folder, { recursive: true });
});

function follow(): Cri {
  const log = pino({ base: null }, { write: (line: string) => logged.push(JSON.parse(line)) });
  const cri = new Cri({ socket, log, onChange: () => changes++ });
  closing.push(() => cri.close());
  return cri;
}

async function runtime(versions = ['v1'], events = false): Promise<Runtime> {
  const started = new Runtime(versions, events);
  closing.push(() => started.close());
  await started.listen(socket);
  return started;
}

const ids = (cri: Cri) => [...cri.containers.keys()].sort();

test('containers are named by their labels, and sandboxes are told apart', async () => {
  const running = await runtime();
  running.sandboxes = ['pod'];
  running.containers = ['a'];
  const cri = follow();
  await cri.attempted;
  expect(cri.runtime).toEqual({ name: 'cri-o', version: '1.30.0' });
  expect([...cri.containers.values()]).toEqual([
    { id: 'pod', podUid: 'uid-of-pod', name: '', image: '', sandbox: true },
    { id: 'a', podUid: 'uid-of-pod', name: 'name-a', image: 'image-a', sandbox: false },
  ]);
  expect(changes).toBe(1);
});

test('an older runtime is asked in the older version of the interface', async () => {
  const running = await runtime(['v1alpha2']);
  running.containers = ['a'];
  const cri = follow();
  await cri.attempted;
  expect(ids(cri)).toEqual(['a']);
});

test('a container that somebody asks for is looked for until the runtime knows it', async () => {
  const running = await runtime();
  const cri = follow();
  await cri.attempted;
  cri.lookup('late');
  await expect.poll(() => running.lists, { timeout: 5000 }).toBeGreaterThan(2);
  running.containers = ['late'];
  await expect.poll(() => ids(cri), { timeout: 2000 }).toEqual(['late']);
});

test('who asks while the runtime is away is not remembered', async () => {
  const cri = follow();
  await cri.attempted;
  for (let i = 0; i < 100; i++) cri.lookup(`gone-${i}`);
  const running = await runtime();
  await expect.poll(() => running.lists, { timeout: 10_000, interval: 10 }).toBeGreaterThan(0);
  await new Promise((resolve) => setTimeout(resolve, 700));
  expect(running.lists).toBeLessThan(3);
});

test('many that ask at once cost a few lists, and one that is not there is given up', async () => {
  const running = await runtime();
  const cri = follow();
  await cri.attempted;
  const before = running.lists;
  for (let i = 0; i < 100; i++) cri.lookup(`nobody-${i}`);
  await new Promise((resolve) => setTimeout(resolve, 2500));
  expect(running.lists - before).toBeLessThan(10);
  expect(running.lists - before).toBeGreaterThan(4);
});

test('a container that has exited is none, and is not looked for any longer', async () => {
  const running = await runtime(['v1'], true);
  running.containers = ['a', 'b'];
  running.exited = ['b'];
  const cri = follow();
  await cri.attempted;
  expect(ids(cri)).toEqual(['a']);
  // past the second list, the next one is 10 s away
  await expect.poll(() => running.lists, { timeout: 3000 }).toBe(2);
  cri.lookup('b');
  await expect.poll(() => running.lists, { timeout: 3000 }).toBe(3);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(running.lists).toBe(3);
  running.exited = ['a', 'b'];
  running.tell('a');
  await expect.poll(() => ids(cri), { timeout: 5000 }).toEqual([]);
});

test("the runtime's events are followed by a list", async () => {
  const running = await runtime(['v1'], true);
  const cri = follow();
  await cri.attempted;
  // past the second list, the next one is 10 s away
  await expect.poll(() => running.lists, { timeout: 3000 }).toBe(2);
  running.containers = ['new'];
  running.tell('new');
  await expect.poll(() => ids(cri), { timeout: 5000 }).toEqual(['new']);
});

test('a container that has not changed stays the same object', async () => {
  const running = await runtime(['v1'], true);
  running.containers = ['a'];
  const cri = follow();
  await cri.attempted;
  const before = cri.containers.get('a');
  running.containers = ['a', 'b'];
  running.tell('b');
  await expect.poll(() => ids(cri), { timeout: 5000 }).toEqual(['a', 'b']);
  expect(cri.containers.get('a')).toBe(before);
});

test('while the runtime is away what was known stays, and that is said once', async () => {
  const first = await runtime();
  first.containers = ['a'];
  const cri = follow();
  await cri.attempted;
  first.close();
  cri.lookup('b');
  await expect.poll(() => logged.some(({ msg }) => /is away/.test(msg)), { timeout: 5000 }).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(ids(cri)).toEqual(['a']);
  const second = await runtime();
  second.containers = ['b'];
  await expect.poll(() => ids(cri), { timeout: 10_000 }).toEqual(['b']);
  expect(logged.map(({ msg, level }) => `${level} ${msg.split(/[;,]/)[0]}`)).toEqual([
    "30 following the container runtime's containers",
    '40 the container runtime is away',
    '30 the container runtime is back',
  ]);
}, 20_000);

test('a runtime that is not there yet is found when it comes', async () => {
  const cri = follow();
  await cri.attempted;
  expect(cri.runtime).toBeUndefined();
  const running = await runtime();
  running.containers = ['a'];
  await expect.poll(() => ids(cri), { timeout: 5000 }).toEqual(['a']);
  expect(logged.map(({ level }) => level)).toEqual([40, 30]);
});
