import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { Delivery } from '../../agent/sink/delivery.js';
import type { Entry } from '../../agent/sink/spool/frame.js';
import type { Spool, Taken } from '../../agent/sink/spool/spool.js';
import { Later, NOTHING_REFUSED, Refused, type Transport } from '../../agent/sink/transport.js';
// @ts-expect-error plain JavaScript, which also runs by itself
import { deliver } from '../delivery/run.mjs';

test('with peers that fail and restart, and an agent that is killed, every workload’s account balances', async () => {
  const { killed, results } = await deliver({ events: 50_000, kills: 3, perSecond: 8000, maxBytes: 3 << 20 });
  expect(killed).toBe(3);
  for (const { wrong, delivered, dropped } of results) {
    expect(wrong).toEqual([]);
    expect(delivered + dropped).toBe(50_000);
    expect(delivered).toBeGreaterThan(1000);
  }
});

const entryOf = (id: string): Entry & { size: number } => ({
  ...{ workload: '', id, count: 1, urgent: false, payload: Buffer.alloc(0), size: 0 },
});
const PROBE = entryOf('probe');
const takenOf = (entries: Taken['entries']): Taken => ({
  ...{ lane: 'express', entries, cursor: { segment: 0, offset: 0, skip: 0, index: 0 }, damaged: 0 },
});
const transportOf = (send: Transport['send']): Transport => ({
  ...{ maxEntries: 1000, maxBytes: 1 << 20, gatherMs: 0 },
  encode: () => '',
  send,
  close: async () => {},
});

/** A spool that has these entries until they are done. */
function spoolOf(ids: readonly string[]) {
  const refused: string[] = [];
  let taken: Taken | undefined = takenOf(ids.map(entryOf));
  const done = (_: Taken, which: ReadonlySet<number>) => {
    refused.push(...ids.filter((_id, at) => which.has(at)));
    taken = undefined;
  };
  const spool = { take: () => taken, done } as unknown as Spool;
  return { spool, refused };
}

describe('an attempt', () => {
  test('for which the spool cannot be read is the sink’s trouble, and the next one is made', async () => {
    const { spool } = spoolOf(['a']);
    const told: (string | undefined)[] = [];
    let takes = 0;
    const delivery = new Delivery({
      ...{ probe: () => PROBE, pace: 0, transport: transportOf(async () => NOTHING_REFUSED) },
      spool: {
        take: () => {
          if (takes++ === 0) throw new Error('EIO');
          return spool.take(1, 1);
        },
        done: spool.done,
      } as unknown as Spool,
      onTrouble: (trouble) => told.push(trouble),
    });
    await vi.waitFor(() => expect(delivery.stats).toMatchObject({ delivered: 1, failures: 1 }));
    expect(told).toEqual(['EIO', undefined]);
    await delivery.close(0);
  });

  test('that never ends does not keep who closes', async () => {
    const { spool } = spoolOf(['a']);
    const transport = transportOf(() => new Promise(() => {}));
    const delivery = new Delivery({ spool, transport, probe: () => PROBE });
    await delivery.close(20);
    expect(delivery.stats).toMatchObject({ delivered: 0, failures: 1 });
  });

  test('that was given up is over before the next one is sent', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const later = async (milliseconds: number) => {
      await vi.advanceTimersByTimeAsync(milliseconds);
      await sleep(20);
    };
    const { spool } = spoolOf(['a']);
    const stuck: (() => void)[] = [];
    const transport = transportOf(async () => {
      await new Promise<void>((resolve) => stuck.push(resolve));
      return NOTHING_REFUSED;
    });
    const delivery = new Delivery({ spool, transport, probe: () => PROBE, pace: 0 });
    for (let i = 0; i < 3; i++) await later(30_000);
    expect(delivery.stats).toMatchObject({ failures: 3, trouble: 'not over in 30 s' });
    expect(stuck).toHaveLength(1);
    stuck[0]?.();
    await later(0);
    expect(stuck).toHaveLength(2);
    vi.useRealTimers();
    await delivery.close(0);
  });
});

describe('what a peer refuses', () => {
  /** Delivers to a peer that refuses what it is told to. */
  const deliverTo = (ids: readonly string[], refuses: (id: string) => boolean) => {
    const { spool, refused } = spoolOf(ids);
    const sent: string[][] = [];
    const transport = transportOf(async (entries) => {
      sent.push(entries.map(({ id }) => id));
      if (entries.some(({ id }) => refuses(id))) throw new Refused('no');
      return NOTHING_REFUSED;
    });
    const delivery = new Delivery({ spool, transport, probe: () => PROBE, pace: 0 });
    return { delivery, refused, sent };
  };

  test('among what it takes is refused for good', async () => {
    const { delivery, refused, sent } = deliverTo(['a', 'b', 'c', 'd'], (id) => id === 'd');
    await vi.waitFor(() => expect(refused).toEqual(['d']));
    expect(delivery.stats).toMatchObject({ delivered: 3, failures: 0 });
    // it has shown that it takes some
    expect(sent.flat()).not.toContain('probe');
    await delivery.close(0);
  });

  test('is all that there is: it is refused for good if the peer takes something else', async () => {
    const { delivery, refused } = deliverTo(['a', 'b'], (id) => id !== 'probe');
    await vi.waitFor(() => expect(refused).toEqual(['a', 'b']));
    expect(delivery.stats).toMatchObject({ delivered: 0, failures: 0 });
    await delivery.close(0);
  });

  test.each([1, 4])('together with anything else is sent again: %i', async (number) => {
    let wrong = true;
    const ids = Array.from({ length: number }, (_, i) => String(i));
    const { delivery, refused } = deliverTo(ids, () => wrong);
    await vi.waitFor(() => expect(delivery.stats.failures).toBeGreaterThan(2));
    expect(delivery.stats).toMatchObject({ delivered: 0, trouble: 'no' });
    wrong = false;
    await vi.waitFor(() => expect(delivery.stats).toMatchObject({ delivered: number, trouble: undefined }));
    expect(refused).toEqual([]);
    await delivery.close(0);
  });
});

describe('after failures', () => {
  /** A spool that always has as many entries as are asked for. */
  const endless = (sizes: number[]) => {
    const take = (most: number): Taken => {
      sizes.push(most);
      return takenOf(Array(most).fill(entryOf('')));
    };
    return { take, done: () => {} } as unknown as Spool;
  };

  test('five in a row, small batches are tried until one gets through', async () => {
    const sizes: number[] = [];
    const circuits: string[] = [];
    let attempts = 0;
    await new Promise<void>((resolve) => {
      const delivery = new Delivery({
        spool: endless(sizes),
        ...{ probe: () => PROBE, pace: 0 },
        transport: transportOf(async () => {
          // the first is sent before there is a `delivery`
          await Promise.resolve();
          circuits.push(delivery.stats.circuit);
          if (++attempts <= 6) throw new Error('away');
          if (attempts === 9) {
            void delivery.close(0).then(resolve);
            await new Promise((wait) => setTimeout(wait, 1));
          }
          return NOTHING_REFUSED;
        }),
      });
    });
    expect(sizes.slice(0, 8)).toEqual([1000, 1000, 1000, 1000, 1000, 10, 10, 1000]);
    expect(circuits.slice(0, 8)).toEqual([...Array(5).fill('closed'), 'half-open', 'half-open', 'closed']);
  });

  test('a peer that asks for time is given it', async () => {
    const times: number[] = [];
    await new Promise<void>((resolve) => {
      const delivery = new Delivery({
        spool: endless([]),
        probe: () => PROBE,
        transport: transportOf(async () => {
          await Promise.resolve();
          times.push(performance.now());
          if (times.length === 1) throw new Later('busy', 600);
          void delivery.close(0).then(resolve);
          await new Promise((wait) => setTimeout(wait, 1));
          return NOTHING_REFUSED;
        }),
      });
    });
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(590);
  });
});
