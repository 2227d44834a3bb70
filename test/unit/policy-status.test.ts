import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { ApiError, type KubeApi, type RequestDetails } from '../../agent/control/api.js';
import type { PolicyState } from '../../agent/control/policies.js';
import { PolicyStatuses } from '../../agent/control/status.js';
import { POLICY_REF } from './records.js';

const UID = '11111111-2222-3333-4444-555555555555';
const state = (generation: number): PolicyState => ({
  ref: { ...POLICY_REF, uid: UID, generation },
  accepted: true,
  diagnostics: [],
});

const closing: { close(): void }[] = [];
afterEach(() => {
  for (const each of closing.splice(0)) each.close();
});

/** The leader's part against an API server that has one policy, and takes its status as `answer` says. */
function lead(answer: () => void) {
  const states = new Map([[UID, state(1)]]);
  const at: number[] = [];
  let leading = true;
  const api = {
    async request(path: string, { method }: RequestDetails) {
      if (method === 'PATCH') {
        at.push(performance.now());
        answer();
        return {};
      }
      const metadata = { name: 'web', namespace: 'shop', uid: UID, resourceVersion: '1' };
      const items = path.endsWith('/workloadpolicies') ? [{ metadata }] : [];
      return { metadata: { resourceVersion: '1' }, items };
    },
    async *stream(_: string, { signal }: RequestDetails) {
      await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    },
    found() {},
    lost() {},
    forget() {},
  };
  const statuses = new PolicyStatuses({
    api: api as unknown as KubeApi,
    known: { policies: [], states },
    leading: () => leading,
    timing: { quiet: 5, interval: 30 },
  });
  closing.push(statuses);
  const change = (generation: number) => {
    states.set(UID, state(generation));
    statuses.changed();
  };
  return { at, change, lead: (is: boolean) => (leading = is) };
}

test('a server that refuses is asked less and less often, whatever changes meanwhile', async () => {
  const { at, change } = lead(() => {
    throw new ApiError(500, 'InternalError', 'no');
  });
  for (let i = 2; i < 30; i++) {
    await pause(50);
    change(i);
  }
  // after half a second at the least, and then a whole one
  expect(at.length).toBeGreaterThan(0);
  expect(at.length).toBeLessThan(4);
});

test('a server that asks to be left alone for a time is', async () => {
  let refusals = 1;
  const { at } = lead(() => {
    if (refusals-- > 0) throw new ApiError(429, 'TooManyRequests', 'later', 2000);
  });
  await expect.poll(() => at.length, { timeout: 5000 }).toBe(2);
  expect(at[1] - at[0]).toBeGreaterThan(1990);
});

test('what changes while the Lease is in doubt is written once it is not', async () => {
  const one = lead(() => {});
  await expect.poll(() => one.at.length).toBe(1);
  one.lead(false);
  one.change(2);
  await pause(200);
  expect(one.at.length).toBe(1);
  one.lead(true);
  await expect.poll(() => one.at.length).toBe(2);
});
