import { describe, expect, test } from 'vitest';
import { Delivery } from '../../agent/sink/delivery.js';
import type { Spool, Taken } from '../../agent/sink/spool/spool.js';
import { Later, NOTHING_REFUSED, type Transport } from '../../agent/sink/transport.js';
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

describe('after failures', () => {
  /** A spool that always has as many entries as are asked for. */
  const endless = (sizes: number[]) => {
    const take = (most: number): Taken => {
      sizes.push(most);
      const entry = { workload: '', id: '', count: 1, urgent: false, payload: Buffer.alloc(0), size: 0 };
      const cursor = { segment: 0, offset: 0, skip: 0, index: 0 };
      return { lane: 'express', entries: Array(most).fill(entry), cursor, damaged: 0 };
    };
    return { take, done: () => {} } as unknown as Spool;
  };
  const transportOf = (send: Transport['send']): Transport => ({
    ...{ maxEntries: 1000, maxBytes: 1 << 20, gatherMs: 0 },
    encode: () => '',
    send,
    close: async () => {},
  });

  test('five in a row, small batches are tried until one gets through', async () => {
    const sizes: number[] = [];
    const circuits: string[] = [];
    let attempts = 0;
    await new Promise<void>((resolve) => {
      const delivery = new Delivery({
        spool: endless(sizes),
        pace: 0,
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
