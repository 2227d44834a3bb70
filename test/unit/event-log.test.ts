import { describe, expect, it } from 'vitest';
import { EventLog, type LogReader } from '../../agent/event/log.js';
import type { BelayRecord } from '../../agent/event/record.js';
import { alertRecord } from './serve-records.js';

const numbered = (sequence: number | bigint, namespace = 'shop') =>
  alertRecord({ sequence: String(sequence), namespace });
const all = () => true;

function filled(log: EventLog, from: number, to: number): EventLog {
  for (let n = from; n <= to; n++) log.append(numbered(n));
  return log;
}

/** What a reader reads now: sequence numbers, and `-n` for n missed. */
function read(reader: LogReader): string[] {
  const seen: string[] = [];
  for (let next = reader.next(); next !== undefined; next = reader.next())
    seen.push('record' in next ? next.record.sequence : `-${next.lost ?? '?'}`);
  return seen;
}

describe('what happened lately', () => {
  it('is read from now on, from the beginning, or from where one was', () => {
    const log = filled(new EventLog(), 101, 105);
    const [now, beginning, middle] = [log.read(all), log.read(all, 0n), log.read(all, 103n)];
    filled(log, 106, 107);
    expect(read(now)).toEqual(['106', '107']);
    expect(read(beginning)).toEqual(['101', '102', '103', '104', '105', '106', '107']);
    expect(read(middle)).toEqual(['104', '105', '106', '107']);
  });

  it('tells one who comes back too late exactly how many records are gone', () => {
    const log = filled(new EventLog({ records: 4 }), 101, 110);
    expect(read(log.read(all, 106n, true))).toEqual(['107', '108', '109', '110']);
    expect(read(log.read(all, 102n, true))).toEqual(['-4', '107', '108', '109', '110']);
    expect(read(log.read(all, 110n, true))).toEqual([]);
  });

  it('does not guess how many are gone, where some are not for the reader or numbers are no record’s', () => {
    const log = filled(filled(new EventLog({ records: 4 }), 101, 103), 105, 112);
    expect(read(log.read(all, 105n))).toEqual(['-?', '109', '110', '111', '112']);
    expect(read(log.read(all, 108n))).toEqual(['109', '110', '111', '112']);
    expect(read(log.read(all, 102n, true))).toEqual(['-?', '109', '110', '111', '112']);
    expect(read(log.read(all, 104n, true))).toEqual(['-4', '109', '110', '111', '112']);
  });

  it("tells one who comes with another agent's number that it cannot know how many", () => {
    const log = filled(new EventLog(), 5000, 5002);
    expect(read(log.read(all, 17n))).toEqual(['-?', '5000', '5001', '5002']);
    expect(read(log.read(all, 9999n))).toEqual(['-?', '5000', '5001', '5002']);
    expect(read(new EventLog().read(all, 17n))).toEqual(['-?']);
  });

  it('counts for a slow reader what it would have read, and nothing else', () => {
    const log = new EventLog({ records: 4 });
    const slow = log.read((record: BelayRecord) => 'namespace' in record && record.namespace === 'shop');
    for (let n = 1; n <= 20; n++) log.append(numbered(n, n % 2 === 0 ? 'shop' : 'bank'));
    // 17 to 20 are left; of 1 to 16, every second one was for it
    expect(read(slow)).toEqual(['-8', '18', '20']);
    expect(log.missed).toBe(8);
  });

  it('keeps within its bytes as well', () => {
    const log = new EventLog({ records: 1000, bytes: 50_000 });
    const long = alertRecord({ object: { path: `/${'a'.repeat(4000)}` } });
    for (let n = 1; n <= 100; n++) log.append({ ...long, sequence: String(n) });
    const kept = read(log.read(all, 0n));
    expect(kept.length).toBeGreaterThan(5);
    expect(kept.length).toBeLessThan(15);
    expect(kept.at(-1)).toBe('100');
  });

  it('wakes who waits once for what comes together', async () => {
    const log = new EventLog();
    const reader = log.read(all);
    const woken = reader.more(60_000);
    filled(log, 1, 3);
    await woken;
    expect(read(reader)).toEqual(['1', '2', '3']);
    reader.close();
    expect(log.readers).toBe(0);
  });
});
