import { execFile, execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { BelayRecord } from '../../agent/event/record.js';
import { JsonLines } from '../../agent/sink/json-lines.js';
import { alertOf, STEERED, STEERING } from './records.js';

/** What a disk still takes, and whether it tells of trouble only when a file is closed. */
const { room } = vi.hoisted(() => ({ room: { bytes: Number.POSITIVE_INFINITY, fails: false } }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const writeSync = (fd: number, bytes: Buffer, offset = 0): number => {
    if (room.bytes === 0) throw new Error('ENOSPC');
    const length = Math.min(room.bytes, bytes.length - offset);
    room.bytes -= length;
    return fs.writeSync(fd, bytes, offset, length);
  };
  const closeSync = (fd: number) => {
    fs.closeSync(fd);
    if (room.fails) throw new Error('EDQUOT');
  };
  return { ...fs, writeSync, closeSync };
});

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-lines-'));
  path = join(directory, 'events.jsonl');
});
afterEach(() => {
  room.bytes = Number.POSITIVE_INFINITY;
  room.fails = false;
  rmSync(directory, { recursive: true, force: true });
});

const record = (id: string) => ({ type: 'failure', id }) as BelayRecord;
const lines = () => readFileSync(path, 'utf8').split('\n');

describe('a file', () => {
  test('has a line for each record, behind what was there', async () => {
    writeFileSync(path, 'before\n');
    const out = new JsonLines(path);
    for (const id of ['a', 'b']) out.write(record(id));
    await out.close();
    expect(lines()).toEqual(['before', JSON.stringify(record('a')), JSON.stringify(record('b')), '']);
    expect(out.takeDropped()).toEqual({ dropped: 0, error: undefined });
  });

  test('has what was written before a flush when that returns', async () => {
    const out = new JsonLines(path);
    out.write(record('a'));
    out.flush();
    expect(lines()).toEqual([JSON.stringify(record('a')), '']);
    await out.close();
  });

  test('that has no room counts every record that it did not take, and goes on when there is room', async () => {
    symlinkSync('/dev/full', path);
    const out = new JsonLines(path);
    for (let i = 0; i < 50; i++) out.write(record(String(i)));
    await sleep(200);
    for (let i = 0; i < 5; i++) out.write(record(String(i)));
    const { dropped, error } = out.takeDropped();
    expect(dropped).toBe(55);
    expect(error?.message).toContain('ENOSPC');
    rmSync(path);
    // what was written last was cut off
    writeFileSync(path, '{"type": "fail');
    await sleep(1000);
    out.write(record('there'));
    await out.close();
    expect(lines()).toEqual(['{"type": "fail', JSON.stringify(record('there')), '']);
    expect(out.takeDropped().dropped).toBe(0);
    expect(out.takeDropped().error).toBeUndefined();
  });

  test('that has room for a part counts the lines that it did not take whole', async () => {
    const out = new JsonLines(path);
    for (const id of ['a', 'b', 'c']) out.write(record(id));
    room.bytes = JSON.stringify(record('a')).length + 5;
    out.flush();
    expect(lines()).toEqual([JSON.stringify(record('a')), JSON.stringify(record('b')).slice(0, 4)]);
    expect(out.takeDropped().dropped).toBe(2);
    await out.close();
  });

  test('that cannot even be closed is no reason to end', async () => {
    const out = new JsonLines(path);
    out.write(record('a'));
    room.bytes = 0;
    room.fails = true;
    out.flush();
    expect(out.takeDropped()).toMatchObject({ dropped: 1, error: { message: 'ENOSPC' } });
    await out.close();
  });

  test('steers no terminal', async () => {
    const out = new JsonLines(path);
    out.write(alertOf({ object: { path: STEERING } }));
    await out.close();
    expect(lines()[0]).toContain(`"path":"${STEERED}"`);
    expect(JSON.parse(lines()[0])).toMatchObject({ object: { path: STEERING } });
  });

  test('that is a pipe waits for whoever reads it', async () => {
    execFileSync('mkfifo', [path]);
    const out = new JsonLines(path);
    out.write(record('a'));
    await sleep(200);
    const reader = promisify(execFile)('cat', [path]);
    await sleep(200);
    await out.close();
    expect((await reader).stdout).toBe(`${JSON.stringify(record('a'))}\n`);
    expect(out.takeDropped().dropped).toBe(0);
  });

  test('that is a pipe whose reader is gone goes on with the next one', async () => {
    execFileSync('mkfifo', [path]);
    const out = new JsonLines(path);
    const read = (command: string) => promisify(execFile)('sh', ['-c', `${command} < ${path}`]);
    const first = read('head -n 1');
    out.write(record('a'));
    await first;
    out.write(record('b'));
    await vi.waitFor(() => expect(out.takeDropped()).toMatchObject({ dropped: 1, error: { code: 'EPIPE' } }));
    await sleep(1000);
    const second = read('cat');
    out.write(record('c'));
    await out.close();
    expect((await second).stdout).toBe(`${JSON.stringify(record('c'))}\n`);
    expect(out.takeDropped().dropped).toBe(0);
  });

  test('that is a pipe that nobody reads, or not far enough, holds up neither the end nor a thread', async () => {
    const paths = [1, 2, 3, 4, 5].map((n) => `${path}${n}`);
    execFileSync('mkfifo', paths);
    const reader = openSync(paths[0], constants.O_RDONLY | constants.O_NONBLOCK);
    const outs = paths.map((each) => new JsonLines(each));
    for (const out of outs) {
      out.write(record('a'.repeat(1 << 20)));
      out.write(record('b'));
    }
    await sleep(200);
    const began = performance.now();
    await Promise.all(outs.map((out) => out.close()));
    expect(performance.now() - began).toBeLessThan(5000);
    for (const out of outs) expect(out.takeDropped().dropped).toBe(2);
    await readFile('/dev/null');
    closeSync(reader);
  });

  test('that still has no room when it is closed keeps nobody waiting', async () => {
    symlinkSync('/dev/full', path);
    const out = new JsonLines(path);
    out.write(record('a'));
    await out.close();
    expect(out.takeDropped().dropped).toBe(1);
  });
});

describe('standard output', () => {
  const outOf = (write: (bytes: Buffer, done: () => void) => void) => {
    const stdout = new Writable({ write: (bytes, _, done) => write(bytes, done) });
    vi.spyOn(process, 'stdout', 'get').mockReturnValue(stdout as typeof process.stdout);
    return { out: new JsonLines('-'), stdout };
  };
  afterEach(() => vi.restoreAllMocks());

  test('has all that was written when it is closed, also when it is slow', async () => {
    const taken: string[] = [];
    const { out, stdout } = outOf((bytes, done) => {
      setTimeout(() => {
        taken.push(bytes.toString());
        done();
      }, 300);
    });
    for (const id of ['a', 'b']) {
      out.write(record(id));
      out.flush();
    }
    await out.close();
    expect(taken).toEqual(['a', 'b'].map((id) => `${JSON.stringify(record(id))}\n`));
    expect(out.takeDropped().dropped).toBe(0);
    expect(stdout.destroyed).toBe(false);
  });

  test('that takes nothing holds up the end only for a while', async () => {
    const { out } = outOf(() => {});
    for (const id of ['a', 'b']) out.write(record(id));
    await out.close();
    expect(out.takeDropped().dropped).toBe(2);
  });
});
