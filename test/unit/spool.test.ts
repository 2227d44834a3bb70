import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Spool } from '../../agent/sink/spool/spool.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-spool-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const NONE = new Set<number>();
const open = (maxBytes = 4 << 20) =>
  new Spool({
    directory,
    maxBytes,
    marker: ({ reason, workload, count }) => ({
      ...{
        workload,
        id: `gap-${reason}-${workload}-${count}`,
        count,
        urgent: true,
        payload: `gap ${reason}`,
      },
    }),
  });
const entryOf = (id: string, workload = 'a', payload: string = id) => ({
  workload,
  id,
  count: 1,
  urgent: true,
  payload,
});

/** All that is there, taken and done. */
function drain(spool: Spool, refused: (id: string) => boolean = () => false): string[] {
  const ids: string[] = [];
  for (let taken = spool.take(7, 1 << 20); taken; taken = spool.take(7, 1 << 20)) {
    ids.push(...taken.entries.map(({ id }) => id));
    spool.done(taken, new Set(taken.entries.flatMap(({ id }, at) => (refused(id) ? [at] : []))));
  }
  return ids;
}
const bytesOnDisk = () =>
  readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
const segments = () => readdirSync(directory).filter((name) => name.endsWith('.seg'));

describe('what was committed', () => {
  test('is there after a kill, in order, once, with what it says', () => {
    const killed = open();
    for (let i = 0; i < 50; i++) {
      killed.offer('express', entryOf(`e${i}`, 'a', `payload ${i} é`));
      if (i % 7 === 0) killed.commit();
    }
    killed.commit();
    const first = killed.take(10, 1 << 20);
    if (first === undefined) throw new Error('nothing was taken');
    expect(first.entries[3]).toMatchObject({ workload: 'a', id: 'e3', count: 1, urgent: true });
    expect(first.entries[3]?.payload.toString()).toBe('payload 3 é');
    killed.done(first, NONE);
    // never closed: the next one finds what the disk has
    const next = open();
    expect(next.waiting).toBe(40);
    expect(drain(next)).toEqual(Array.from({ length: 40 }, (_, i) => `e${i + 10}`));
    expect(next.waiting).toBe(0);
  });

  test('and taken but not done comes again', () => {
    const killed = open();
    killed.offer('express', entryOf('once'));
    killed.commit();
    killed.take(10, 1 << 20);
    expect(drain(open())).toEqual(['once']);
  });

  test('survives a frame that was not written whole, which goes', () => {
    const killed = open();
    killed.offer('express', entryOf('whole'));
    killed.commit();
    killed.offer('express', entryOf('torn'));
    killed.mark({ source: 'ring', at: 1 });
    killed.commit();
    const [name] = segments().filter((each) => each.startsWith('express'));
    const path = join(directory, name ?? '');
    truncateSync(path, statSync(path).size - 3);
    const next = open();
    // the source tells what was torn again
    expect(next.has({ source: 'ring', at: 1 })).toBe(false);
    next.offer('express', entryOf('again'));
    next.commit();
    expect(drain(next)).toEqual(['whole', 'again']);
    expect(drain(open())).toEqual([]);
  });

  test('in both lanes counts as a whole or not at all', () => {
    const killed = open();
    killed.offer('bulk', entryOf('before'));
    killed.commit();
    killed.offer('bulk', entryOf('b'));
    killed.offer('express', entryOf('e'));
    killed.mark({ source: 'ring', at: 1 });
    killed.commit();
    // killed between the two
    for (const name of segments()) if (name.startsWith('express')) truncateSync(join(directory, name), 0);
    const next = open();
    expect(next.has({ source: 'ring', at: 1 })).toBe(false);
    expect(next.waiting).toBe(1);
    next.offer('bulk', entryOf('b again'));
    next.offer('express', entryOf('e again'));
    next.commit();
    expect(drain(open()).sort()).toEqual(['b again', 'before', 'e again']);
  });

  test('survives rubbish at the end of a file', () => {
    const killed = open();
    killed.offer('bulk', entryOf('x'));
    killed.commit();
    for (const name of segments()) appendFileSync(join(directory, name), Buffer.alloc(100, 7));
    expect(drain(open())).toEqual(['x']);
  });

  test('and then damaged in the middle is counted', () => {
    const killed = open(16 << 20);
    for (let i = 0; i < 400; i++) {
      killed.offer('express', entryOf(`e${i}`, 'a', 'x'.repeat(10_000)));
      if (i % 10 === 9) killed.commit();
    }
    killed.commit();
    const [first] = segments()
      .sort()
      .filter((name) => name.startsWith('express'));
    const bytes = readFileSync(join(directory, first ?? ''));
    bytes[250_000] = (bytes[250_000] ?? 0) ^ 0xff;
    writeFileSync(join(directory, first ?? ''), bytes);
    const next = open(16 << 20);
    const ids = drain(next);
    expect(ids.length).toBeLessThan(400);
    expect(ids.at(-1)).toBe('e399');
    expect(next.untold).toBe(400 - ids.length);
    next.tellDrops();
    expect(drain(next)).toEqual([`gap-damaged--${400 - ids.length}`]);
  });
});

describe('a segment', () => {
  const filled = () => {
    const spool = open(1 << 20);
    for (let i = 0; i < 100; i++) {
      spool.offer('express', entryOf(`e${i}`, 'a', 'x'.repeat(2000)));
      spool.commit();
    }
    return spool;
  };

  test('that is written to is read even when it has been removed', () => {
    const spool = open();
    spool.offer('express', entryOf('there'));
    spool.commit();
    for (const name of segments()) rmSync(join(directory, name));
    expect(drain(spool)).toEqual(['there']);
  });

  test('that cannot be read for a minute is passed over, and what was in it is counted', () => {
    const spool = filled();
    const [first = ''] = segments()
      .filter((name) => name.startsWith('express'))
      .sort();
    rmSync(join(directory, first));
    vi.useFakeTimers({ toFake: ['performance'] });
    const take = () => [0, 1].map(() => spool.take(7, 1 << 20));
    expect(take).toThrow('ENOENT');
    vi.advanceTimersByTime(50_000);
    expect(take).toThrow('ENOENT');
    vi.advanceTimersByTime(10_000);
    expect(spool.waiting).toBe(100);
    // and is not asked for again, though what follows is not done yet
    take();
    const kept = drain(spool);
    vi.useRealTimers();
    expect(kept.at(-1)).toBe('e99');
    expect(kept.length).toBeLessThan(100);
    expect(spool).toMatchObject({ waiting: 0, untold: 100 - kept.length, dropped: 100 - kept.length });
    expect(segments()).toHaveLength(2);
  });

  test('whose end cannot be read is counted though nothing follows it', () => {
    const spool = open();
    for (const id of ['whole', 'broken', 'lost']) {
      spool.offer('express', entryOf(id));
      spool.commit();
    }
    const [name = ''] = segments().filter((each) => each.startsWith('express'));
    const bytes = readFileSync(join(directory, name));
    bytes.write('B', bytes.indexOf('broken'));
    writeFileSync(join(directory, name), bytes);
    expect(drain(spool)).toEqual(['whole']);
    expect(spool).toMatchObject({ waiting: 0, untold: 2 });
  });
});

describe('room', () => {
  test('is never exceeded, and what found none is counted by workload, also after a kill', () => {
    const killed = open(1 << 20);
    const offered = { a: 0, b: 0 };
    for (let i = 0; i < 3000; i++) {
      const workload = i % 4 === 0 ? 'b' : 'a';
      offered[workload]++;
      killed.offer('express', entryOf(`${workload}${i}`, workload, 'x'.repeat(1000)));
      if (i % 50 === 0) killed.commit();
      if (i % 50 === 1) expect(bytesOnDisk()).toBeLessThanOrEqual((1 << 20) + 8192);
    }
    killed.commit();
    expect(killed.dropped).toBeGreaterThan(0);
    const next = open(1 << 20);
    const kept = drain(next);
    next.tellDrops();
    const gaps = drain(next);
    for (const workload of ['a', 'b'] as const) {
      const lost = gaps.flatMap(
        (id) => new RegExp(`^gap-spool-full-${workload}-(\\d+)$`).exec(id)?.[1] ?? [],
      );
      const delivered = kept.filter((id) => id.startsWith(workload)).length;
      expect(delivered + lost.map(Number).reduce((x, y) => x + y, 0)).toBe(offered[workload]);
    }
    expect(next.untold).toBe(0);
  });

  test('is left for others by a flood', () => {
    const spool = open(2 << 20);
    for (let i = 0; i < 5000; i++) spool.offer('bulk', entryOf(`f${i}`, 'flood', 'x'.repeat(1000)));
    for (let i = 0; i < 50; i++) spool.offer('express', entryOf(`q${i}`, 'quiet', 'x'.repeat(1000)));
    spool.commit();
    expect(drain(spool).filter((id) => id.startsWith('q'))).toHaveLength(50);
  });

  test('for another file may be wanting: what finds none is counted, and nothing else is written to', () => {
    const spool = open(1 << 20);
    const offer = (from: number, to: number) => {
      for (let i = from; i < to; i++) {
        spool.offer('express', entryOf(`e${i}`, 'a', 'x'.repeat(1000)));
        spool.commit();
      }
    };
    const next = join(directory, 'express-000000000001.seg');
    mkdirSync(next);
    offer(0, 100);
    const other = join(directory, 'other');
    writeFileSync(other, 'of somebody else');
    // takes the lowest number that is free
    const fd = openSync(other, 'r+');
    offer(100, 120);
    expect(spool.error?.message).toContain('EISDIR');
    rmdirSync(next);
    offer(120, 150);
    closeSync(fd);
    expect(readFileSync(other, 'utf8')).toBe('of somebody else');
    expect(spool.error).toBeUndefined();
    const kept = drain(spool);
    expect(kept.slice(-30)).toEqual(Array.from({ length: 30 }, (_, i) => `e${120 + i}`));
    expect(kept.length + spool.dropped).toBe(150);
  });

  test('comes back as segments are done', () => {
    const spool = open(1 << 20);
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 200; i++) spool.offer('express', entryOf(`r${round}-${i}`, 'a', 'x'.repeat(1000)));
      spool.commit();
      expect(drain(spool)).toHaveLength(200);
    }
    expect(spool.dropped).toBe(0);
    expect(segments().length).toBeLessThan(5);
  });
});

test('what a source tells again after a kill is known', () => {
  const killed = open();
  killed.offer('express', entryOf('one'));
  killed.mark({ source: 'ring', at: 41 });
  killed.commit();
  killed.offer('express', entryOf('never committed'));
  killed.mark({ source: 'ring', at: 42 });
  const next = open();
  expect([41, 42].map((at) => next.has({ source: 'ring', at }))).toEqual([true, false]);
  expect(next.has({ source: 'another', at: 1 })).toBe(false);
});

test('what a peer refuses for good is counted, and the count outlives a kill', () => {
  const killed = open();
  for (let i = 0; i < 10; i++) killed.offer('express', entryOf(`e${i}`));
  killed.commit();
  drain(killed, (id) => id === 'e3' || id === 'e4');
  const next = open();
  expect(next.untold).toBe(2);
  next.tellDrops();
  expect(drain(next)).toEqual(['gap-refused-a-2']);
  expect(open().untold).toBe(0);
});

test('what waits in one lane does not hold up the other', () => {
  const spool = open();
  for (let i = 0; i < 1000; i++) spool.offer('bulk', entryOf(`b${i}`));
  spool.offer('express', entryOf('urgent'));
  spool.commit();
  const firsts = [spool.take(10, 1 << 20), spool.take(10, 1 << 20)];
  expect(firsts.flatMap((taken) => taken?.entries.map(({ id }) => id) ?? [])).toContain('urgent');
});
