import {
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Workload } from '../../agent/workload/model.js';
import { WorkloadsFault, watchWorkloads } from '../../agent/workload/watch.js';
import { watchPath } from '../../agent/workload/watch-path.js';

let dir: string;
let open: { close(): unknown }[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'belay-watch-'));
  open = [];
});

afterEach(async () => {
  for (const watch of open) await watch.close();
  rmSync(dir, { recursive: true, force: true });
});

const soon = { timeout: 5000, interval: 10 };
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** As the kubelet does it: the file is a link into `..data`, which is a link to a folder that is replaced. */
function putConfigMap(name: string, text: string): void {
  const folder = `..${Date.now()}-${Math.random()}`;
  mkdirSync(join(dir, folder));
  writeFileSync(join(dir, folder, name), text);
  symlinkSync(folder, join(dir, '..data_tmp'));
  let before: string | undefined;
  try {
    before = readlinkSync(join(dir, '..data'));
  } catch {
    symlinkSync(join('..data', name), join(dir, name));
  }
  renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
  if (before !== undefined) rmSync(join(dir, before), { recursive: true });
}

describe('a path that is watched', () => {
  async function watched(path: string): Promise<() => number> {
    const onChange = vi.fn();
    open.push(watchPath(path, onChange));
    await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(1), soon);
    await pause(120);
    onChange.mockClear();
    return () => onChange.mock.calls.length;
  }

  async function told(calls: () => number, act: () => void): Promise<void> {
    const before = calls();
    act();
    await vi.waitFor(() => expect(calls()).toBeGreaterThan(before), soon);
    await pause(120);
  }

  test('tells of a file written, replaced, removed and made again', async () => {
    const file = join(dir, 'f');
    writeFileSync(file, '1');
    const calls = await watched(file);
    await told(calls, () => writeFileSync(file, '2'));
    await told(calls, () => {
      writeFileSync(join(dir, 'f.new'), '3');
      renameSync(join(dir, 'f.new'), file);
    });
    await told(calls, () => unlinkSync(file));
    await told(calls, () => writeFileSync(file, '4'));
  });

  test('tells of changes at once, not when it next looks', async () => {
    const file = join(dir, 'f');
    writeFileSync(file, '');
    const calls = await watched(file);
    const start = performance.now();
    for (let i = 0; i < 10; i++) await told(calls, () => writeFileSync(file, String(i)));
    // looking every two seconds would take some twenty
    expect(performance.now() - start).toBeLessThan(8000);
  });

  test('is silent about its neighbours', async () => {
    const file = join(dir, 'f');
    writeFileSync(file, '1');
    const calls = await watched(file);
    writeFileSync(join(dir, 'g'), '1');
    unlinkSync(join(dir, 'g'));
    await pause(300);
    expect(calls()).toBe(0);
  });

  test('takes changes that come together as one', async () => {
    const file = join(dir, 'f');
    writeFileSync(file, '');
    const calls = await watched(file);
    for (let i = 0; i < 10; i++) writeFileSync(file, String(i));
    await pause(300);
    expect(calls()).toBe(1);
  });

  test('that never rests is told of all the same', async () => {
    const file = join(dir, 'f');
    writeFileSync(file, '');
    const calls = await watched(file);
    const busy = setInterval(() => writeFileSync(file, String(Math.random())), 10);
    await pause(1400);
    clearInterval(busy);
    expect(calls()).toBeGreaterThanOrEqual(1);
    expect(calls()).toBeLessThanOrEqual(4);
  });

  test("follows a ConfigMap's links", async () => {
    putConfigMap('f', '1');
    const calls = await watched(join(dir, 'f'));
    await told(calls, () => putConfigMap('f', '2'));
    await told(calls, () => putConfigMap('f', '3'));
  });

  test('may be a directory, with those below it', async () => {
    const calls = await watched(dir);
    await told(calls, () => writeFileSync(join(dir, 'a.yaml'), '1'));
    await told(calls, () => writeFileSync(join(dir, 'a.yaml'), '2'));
    await told(calls, () => mkdirSync(join(dir, 'b')));
    await told(calls, () => writeFileSync(join(dir, 'b', 'c.yaml'), '1'));
    await told(calls, () => rmSync(join(dir, 'b'), { recursive: true }));
  });

  test("may be a directory of a ConfigMap's links", async () => {
    putConfigMap('f', '1');
    const calls = await watched(dir);
    await told(calls, () => putConfigMap('f', '2'));
  });

  test('may be a directory that vanishes and comes back', async () => {
    const inner = join(dir, 'inner');
    mkdirSync(inner);
    const calls = await watched(inner);
    await told(calls, () => renameSync(inner, join(dir, 'away')));
    await told(calls, () => mkdirSync(inner));
    await told(calls, () => writeFileSync(join(inner, 'f'), '1'));
  });

  test('may not exist, nor what it is in', async () => {
    const calls = await watched(join(dir, 'x', 'y', 'f'));
    mkdirSync(join(dir, 'x', 'y'), { recursive: true });
    writeFileSync(join(dir, 'x', 'y', 'f'), '1');
    await vi.waitFor(() => expect(calls()).toBe(1), { timeout: 4000, interval: 20 });
  });

  test('is told of no more once closed', async () => {
    const calls = await watched(dir);
    for (const watch of open) watch.close();
    writeFileSync(join(dir, 'f'), '1');
    await pause(200);
    expect(calls()).toBe(0);
  });
});

describe('the workloads of a file', () => {
  let logged: { level: number; msg: string }[];
  const list = (...names: string[]): string =>
    `workloads:\n${names.map((name) => `- {name: ${name}, cgroup: /sys/fs/cgroup/${name}}\n`).join('')}`;

  async function start(file: string) {
    logged = [];
    const seen: string[][] = [];
    const log = pino({ base: null }, { write: (line: string) => logged.push(JSON.parse(line)) });
    const onChange = (all: readonly Workload[]) => void seen.push(all.map(({ name }) => name));
    open.push(await watchWorkloads({ file, log, onChange }));
    return seen;
  }

  const errors = () => logged.filter(({ level }) => level === 50).map(({ msg }) => msg);

  test('are told at the start, and when they change, and only then', async () => {
    const file = join(dir, 'w.yaml');
    writeFileSync(file, list('a'));
    const seen = await start(file);
    expect(seen).toEqual([['a']]);
    writeFileSync(file, list('a', 'b'));
    await vi.waitFor(() => expect(seen).toHaveLength(2), soon);
    writeFileSync(file, `# the same\n${list('a', 'b')}`);
    await pause(300);
    expect(seen).toEqual([['a'], ['a', 'b']]);
  });

  test('are told even if there are none', async () => {
    const file = join(dir, 'w.yaml');
    writeFileSync(file, 'workloads: []');
    expect(await start(file)).toEqual([[]]);
  });

  test('may come from a ConfigMap', async () => {
    putConfigMap('w.yaml', list('a'));
    const seen = await start(join(dir, 'w.yaml'));
    putConfigMap('w.yaml', list('b'));
    await vi.waitFor(() => expect(seen).toEqual([['a'], ['b']]), soon);
  });

  test('stay when the file becomes wrong, and it is said once why and where', async () => {
    const file = join(dir, 'w.yaml');
    writeFileSync(file, list('a'));
    const seen = await start(file);
    writeFileSync(file, `${list('a')}- {name: b, cgroup: b}\n- {nme: c}\n`);
    await vi.waitFor(() => expect(errors()).toHaveLength(4), soon);
    expect(errors()[0]).toBe(
      `${file}:3:21: error: workloads[1].cgroup "b" is not absolute; write /sys/fs/cgroup/...`,
    );
    writeFileSync(join(dir, 'w.new'), `${list('a')}- {name: b, cgroup: b}\n- {nme: c}\n`);
    renameSync(join(dir, 'w.new'), file);
    await pause(300);
    expect(errors()).toHaveLength(4);
    expect(seen).toEqual([['a']]);
    writeFileSync(file, list('c'));
    await vi.waitFor(() => expect(seen).toEqual([['a'], ['c']]), soon);
  });

  test('stay while the file is away', async () => {
    const file = join(dir, 'w.yaml');
    writeFileSync(file, list('a'));
    const seen = await start(file);
    renameSync(file, `${file}.away`);
    await vi.waitFor(() => expect(errors()).toEqual([expect.stringContaining('no such file')]), soon);
    renameSync(`${file}.away`, file);
    await pause(300);
    expect(seen).toEqual([['a']]);
    expect(errors()).toHaveLength(1);
  });

  test.each([
    ['a fault', 'workloads: [{name: a}]', '1:13'],
    ['bytes that are no text', Buffer.from([0x61, 0xff]), '1:2'],
    ['too many bytes', 'x'.repeat((1 << 20) + 1), '1:1'],
    ['no file', undefined, '1:1'],
  ])('are refused at the start for %s', async (_, text, place) => {
    const file = join(dir, 'w.yaml');
    if (text !== undefined) writeFileSync(file, text);
    const failure = await start(file).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(WorkloadsFault);
    const [first] = (failure as WorkloadsFault).diagnostics;
    expect(`${first?.at.line}:${first?.at.column}`).toBe(place);
    expect((failure as WorkloadsFault).message).toContain(`${file}:${place}: error: `);
  });

  test('are in force while containerd is not there, which is said once', async () => {
    const file = join(dir, 'w.yaml');
    writeFileSync(file, `${list('a')}containerd: ${dir}/containerd.sock\n`);
    const seen = await start(file);
    expect(seen).toEqual([['a']]);
    await pause(1000);
    expect(logged.map(({ msg }) => msg).filter((msg) => msg.includes('containerd'))).toEqual([
      'containerd does not answer; its containers are unprotected until it does',
    ]);
  });
});
