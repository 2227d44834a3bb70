import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { BelayRecord } from '../../agent/event/record.js';
import { JsonLines } from '../../agent/sink/json-lines.js';

/** What a disk still takes. */
const { room } = vi.hoisted(() => ({ room: { bytes: Number.POSITIVE_INFINITY } }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const writeSync = (fd: number, bytes: Buffer, offset = 0): number => {
    if (room.bytes === 0) throw new Error('ENOSPC');
    const length = Math.min(room.bytes, bytes.length - offset);
    room.bytes -= length;
    return fs.writeSync(fd, bytes, offset, length);
  };
  return { ...fs, writeSync };
});

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-lines-'));
  path = join(directory, 'events.jsonl');
});
afterEach(() => {
  room.bytes = Number.POSITIVE_INFINITY;
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

  test('that still has no room when it is closed keeps nobody waiting', async () => {
    symlinkSync('/dev/full', path);
    const out = new JsonLines(path);
    out.write(record('a'));
    await out.close();
    expect(out.takeDropped().dropped).toBe(1);
  });
});
