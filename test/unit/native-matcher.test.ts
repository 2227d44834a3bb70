import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { type Addon, loadAddon } from '../../agent/kernel/addon.js';
import { compile } from '../../agent/policy/compile.js';
import { enums, structs } from '../../agent/policy/layout.js';
import { readPolicies } from '../../agent/policy/read.js';
import { policies, postures } from '../oracle/generate.js';

const { DOMAIN_COUNT } = enums.domain;
const { DECIDE_COUNT } = enums.decide;
const RUNS = Number(process.env.FUZZ_RUNS ?? 300);

/** As somebody without types would call it. */
type Loose = Record<keyof Addon, (...args: unknown[]) => unknown>;

const addon = loadAddon();
const loose = addon as unknown as Loose;
const empty = compile([], { file: 'block', network: 'block', capabilities: 'block' });
const tables = empty.ok ? empty.set.bytes : new Uint8Array();
const name = Buffer.from('/a/b');

describe("the decision code's face", () => {
  it.each([
    ['tables that are no bytes', () => loose.judge('x', 0, name, [0], 0, 0)],
    ['no tables', () => loose.judge()],
    ['a domain that is none', () => loose.judge(tables, DOMAIN_COUNT, name, [0], 0, 0)],
    ['a negative domain', () => loose.judge(tables, -1, name, [0], 0, 0)],
    ['half a domain', () => loose.judge(tables, 0.5, name, [0], 0, 0)],
    ['NaN for a domain', () => loose.judge(tables, Number.NaN, name, [0], 0, 0)],
    ['a domain by name', () => loose.judge(tables, '0', name, [0], 0, 0)],
    ['an input that is no bytes', () => loose.judge(tables, 0, '/a', [0], 0, 0)],
    ['an undefined input', () => loose.judge(tables, 0, undefined, [0], 0, 0)],
    ['classes that are no array', () => loose.judge(tables, 0, name, 0, 0, 0)],
    ['a class that is none', () => loose.judge(tables, 0, name, [65536], 0, 0)],
    ['a class that is no number', () => loose.judge(tables, 0, name, ['x'], 0, 0)],
    ['more classes than a subject has', () => loose.judge(tables, 0, name, [0, 0, 0, 0, 0], 0, 0)],
    ['a question that is none', () => loose.judge(tables, 0, name, [0], DECIDE_COUNT, 0)],
    ['no question', () => loose.judge(tables, 0, name, [0])],
    ['facts that are none', () => loose.judge(tables, 0, name, [0], 0, 256)],
    ['a program that is no bytes', () => loose.subjectClass(tables, 1)],
    ['a program without tables', () => loose.subjectClass(undefined, name)],
    ['a rule that is no number', () => loose.argumentsListed(tables, null, name)],
    ['arguments that are no bytes', () => loose.argumentsListed(tables, 0, ['-a'])],
  ])('throws for %s', (_, call) => {
    expect(call).toThrow();
  });

  it('heeds the rule of one class of a subject wherever it stands among classes that have none', () => {
    const text = `apiVersion: security.belay.dev/v1
kind: WorkloadPolicy
metadata: {name: p, namespace: shop}
spec:
  action: Block
  process: {matchPaths: [{path: /bin/denied, fromSource: [{path: /bin/source}]}]}
`;
    const postures = { file: 'audit', network: 'audit', capabilities: 'audit' } as const;
    const result = compile(readPolicies(text, 'p.yaml').policies, postures);
    if (!result.ok) throw new Error('does not compile');
    const { bytes } = result.set;
    const source = addon.subjectClass(bytes, Buffer.from('/bin/source'));
    const { DOMAIN_PROGRAM } = enums.domain;
    const fired = (...classes: number[]) =>
      addon.judge(bytes, DOMAIN_PROGRAM, Buffer.from('/bin/denied'), classes, enums.decide.DECIDE_EXEC, 0)[0];
    expect(source).not.toBe(0);
    expect(fired(0, 0, 0, 0)).toBe(0);
    for (let at = 0; at < 4; at++)
      expect(fired(...[0, 1, 2, 3].map((i) => (i === at ? source : 0)))).not.toBe(0);
  });

  it('takes views of larger buffers for what they show', () => {
    const around = new Uint8Array(tables.length + 32);
    around.set(tables, 8);
    const view = around.subarray(8, 8 + tables.length);
    expect([...addon.judge(view, 0, name, [0], 0, 0)]).toEqual([...addon.judge(tables, 0, name, [0], 0, 0)]);
  });
});

describe('a word of shared memory', () => {
  it.each([-8, 1, 9, 64, -(2 ** 63), 2 ** 53])(
    'is not changed at %d, which is outside or no word',
    (offset) => {
      const memory = new Uint8Array(128).subarray(32, 96);
      for (const change of [addon.store64, addon.add64])
        expect(() => change(memory, offset, 1n)).toThrow(RangeError);
      expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
    },
  );

  it('is changed at its place', () => {
    const words = new BigUint64Array(8);
    addon.store64(new Uint8Array(words.buffer), 56, 5n);
    addon.add64(new Uint8Array(words.buffer), 56, 2n);
    expect([...words]).toEqual([0n, 0n, 0n, 0n, 0n, 0n, 0n, 7n]);
  });

  it('is found where it differs from another of its entry, or from 0', () => {
    // three entries of two words, and half of one
    const memory = new Uint8Array(new BigUint64Array([1n, 1n, 0n, 1n << 63n, 2n, 0n, 5n]).buffer);
    expect(addon.differing(memory, 16, 0)).toEqual([0, 2]);
    expect(addon.differing(memory, 16, 8)).toEqual([0, 1]);
    expect(addon.differing(memory, 16, 8, 0)).toEqual([1, 2]);
    expect(addon.differing(new Uint8Array(8), 16, 0)).toEqual([]);
  });

  it.each([
    ['no size', 0, 0, undefined],
    ['a size of no words', 12, 0, undefined],
    ['an offset behind the entry', 16, 16, undefined],
    ['another behind the entry', 16, 0, 16],
    ['an offset of no word', 16, 4, undefined],
    ['a negative one', 16, 0, -8],
  ])('is looked for in no entries with %s', (_, size, one, other) => {
    expect(() => addon.differing(new Uint8Array(64), size, one, other)).toThrow(RangeError);
  });
});

const somewhere = fc.nat(0xffffffff);
const damage = fc.oneof(
  fc.record({ kind: fc.constant('cut' as const), at: somewhere }),
  fc.record({ kind: fc.constant('byte' as const), at: somewhere, value: fc.nat(255) }),
  fc.record({ kind: fc.constant('word' as const), at: somewhere, value: somewhere }),
  // The header, on which all the rest hangs.
  fc.record({
    kind: fc.constant('word' as const),
    at: fc.nat(structs.set_header.size - 4),
    value: somewhere,
  }),
);

function damaged(
  bytes: Uint8Array,
  harms: readonly (typeof damage extends fc.Arbitrary<infer T> ? T : never)[],
) {
  let broken = bytes.slice();
  for (const harm of harms) {
    if (broken.length < 4) break;
    if (harm.kind === 'cut') broken = broken.slice(0, harm.at % broken.length);
    else if (harm.kind === 'byte') broken[harm.at % broken.length] = harm.value;
    else new DataView(broken.buffer).setUint32(harm.at % (broken.length - 3), harm.value, true);
  }
  return broken;
}

/** Asks everything there is to ask; what matters is that it comes back. */
function interrogate(bytes: Uint8Array, input: Uint8Array): void {
  addon.subjectClass(bytes, input);
  for (let domain = 0; domain < DOMAIN_COUNT; domain++) {
    for (let decide = 0; decide < DECIDE_COUNT; decide++) {
      const answer = addon.judge(bytes, domain, decide === 0 ? null : input, [0, 1, 65535, 2], decide, 0);
      for (const rule of answer.slice(6)) addon.argumentsListed(bytes, rule, input);
    }
  }
}

describe('broken tables', () => {
  it('are survived, whatever is wrong with them', () => {
    fc.assert(
      fc.property(
        policies,
        postures,
        fc.array(damage, { maxLength: 8 }),
        fc.uint8Array({ maxLength: 64 }),
        (set, defaults, harms, input) => {
          const result = compile(set, defaults);
          if (!result.ok) throw new Error(result.diagnostics[0].message);
          interrogate(damaged(result.set.bytes, harms), input);
        },
      ),
      { numRuns: RUNS },
    );
  }, 120_000);

  it('are survived if they never were any', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 512 }), fc.uint8Array({ maxLength: 16 }), interrogate), {
      numRuns: RUNS,
    });
  }, 120_000);
});

describe('the loader', () => {
  const before = process.env.BELAY_ADDON;
  afterEach(() => {
    if (before === undefined) delete process.env.BELAY_ADDON;
    else process.env.BELAY_ADDON = before;
  });

  it('takes the addon that BELAY_ADDON names', () => {
    const dir = mkdtempSync(join(tmpdir(), 'belay-addon-'));
    try {
      const path = join(dir, 'other.cjs');
      writeFileSync(path, 'module.exports = { marker: 42 };\n');
      process.env.BELAY_ADDON = path;
      expect(loadAddon()).toEqual({ marker: 42 });
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('throws for one that is not there', () => {
    process.env.BELAY_ADDON = '/nonexistent/belay.node';
    expect(() => loadAddon()).toThrow();
  });
});
