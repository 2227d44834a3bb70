import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Addon, loadAddon } from '../../agent/kernel/addon.js';
import { compile } from '../../agent/policy/compile.js';
import { policies, postures, request } from './generate.js';
import { judgeByRules } from './oracle.js';
import { judgeByNative } from './run-native.js';
import { judgeByTables } from './run-tables.js';

/** How many random policy sets; each is asked up to a hundred times. */
const RUNS = Number(process.env.ORACLE_RUNS ?? 1000);

const TIMEOUT = 600_000 + RUNS * 100;

const requests = fc.array(request, { minLength: 1, maxLength: 100, size: 'max' });

const addon = builtAddon();

describe('the tables', () => {
  it(
    'say what the rules say, whatever the policies and the question',
    () => {
      fc.assert(
        fc.property(policies, postures, requests, (set, defaults, questions) => {
          const result = compile(set, defaults);
          if (!result.ok) throw new Error(result.diagnostics[0].message);
          const byTables = judgeByTables(result.set);
          const byRules = judgeByRules(set, defaults);
          for (const each of questions) {
            expect({ request: each, ...byTables(each) }).toEqual({ request: each, ...byRules(each) });
          }
        }),
        { numRuns: RUNS },
      );
    },
    TIMEOUT,
  );

  it('are the same bytes in whatever order the policies come', () => {
    fc.assert(
      fc.property(
        policies.chain((set) =>
          fc.tuple(fc.constant(set), fc.shuffledSubarray(set, { minLength: set.length })),
        ),
        postures,
        ([one, other], defaults) => {
          const [a, b] = [one, other].map((set) => compile(set, defaults));
          if (!a.ok || !b.ok) throw new Error('does not compile');
          expect(Buffer.compare(a.set.bytes, b.set.bytes)).toBe(0);
        },
      ),
      { numRuns: 100 },
    );
  }, 60_000);

  it.skipIf(addon === undefined)(
    'say the same to the decision code',
    () => {
      if (addon === undefined) return;
      let [asked, unsettled] = [0, 0];
      fc.assert(
        fc.property(policies, postures, requests, (set, defaults, questions) => {
          const result = compile(set, defaults);
          if (!result.ok) throw new Error(result.diagnostics[0].message);
          const byCode = judgeByNative(addon, result.set);
          const byRules = judgeByRules(set, defaults);
          for (const each of questions) {
            const verdict = byCode(each);
            asked++;
            if (verdict === undefined) unsettled++;
            else expect({ request: each, ...verdict }).toEqual({ request: each, ...byRules(each) });
          }
        }),
        { numRuns: RUNS },
      );
      expect(unsettled).toBeLessThan(asked / 1000);
    },
    TIMEOUT,
  );
});

/** Undefined where it has not been built. */
function builtAddon(): Addon | undefined {
  try {
    return loadAddon();
  } catch {
    return undefined;
  }
}
