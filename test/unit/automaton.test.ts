import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CellTable } from '../../agent/policy/cells.js';
import { type Dfa, determinise } from '../../agent/policy/dfa.js';
import { parseGlob } from '../../agent/policy/glob.js';
import { ACTIVE_DENIES, CELL_FREE, CHAIN_LIMIT, enums, TABLES_MAGIC, WAITING_LIMIT } from '../../agent/policy/layout.js';
import { minimise } from '../../agent/policy/minimise.js';
import { AutomatonTooLarge, Nfa } from '../../agent/policy/nfa.js';
import { pattern } from '../oracle/generate.js';

const BOUNDS = { states: 20_000, members: 1_000_000 };

function automaton(patterns: readonly string[]): Dfa {
  const nfa = new Nfa();
  patterns.forEach((each, id) => {
    nfa.own(id, () => nfa.accept(nfa.nodes(0, parseGlob(each).nodes), id));
  });
  return determinise(nfa, BOUNDS);
}

function step(dfa: Dfa, state: number, byte: number): number {
  for (let e = dfa.edgeStart[state]; e < dfa.edgeStart[state + 1]; e++)
    if (dfa.edgeByte[e] === byte) return dfa.edgeTo[e];
  return dfa.fallback[state];
}

/** The blocks of E. Moore's algorithm: refine everything until nothing changes. */
function slowBlocks(dfa: Dfa): number {
  let blockOf = Array.from(dfa.accept);
  for (let count = new Set(blockOf).size; ; ) {
    const names = new Map<string, number>();
    blockOf = Array.from({ length: dfa.count }, (_, s) => {
      const signature = [blockOf[s]];
      for (let byte = 0; byte < 256; byte++) signature.push(blockOf[step(dfa, s, byte)]);
      const key = signature.join();
      names.set(key, names.get(key) ?? names.size);
      return names.get(key) as number;
    });
    if (names.size === count) return count;
    count = names.size;
  }
}

describe('minimisation', () => {
  it('leaves as few states as the textbook does, and keeps what is accepted', () => {
    fc.assert(
      fc.property(fc.array(pattern, { minLength: 1, maxLength: 4 }), (patterns) => {
        const dfa = automaton(patterns);
        fc.pre(dfa.count < 300);
        const blocks = minimise(dfa, dfa.accept);
        expect(blocks.count).toBe(slowBlocks(dfa));
        for (let s = 0; s < dfa.count; s++) {
          const other = blocks.member[blocks.blockOf[s]];
          expect(dfa.accept[s]).toBe(dfa.accept[other]);
          for (const byte of Buffer.from('/ab.*é\xff')) {
            expect(blocks.blockOf[step(dfa, s, byte)]).toBe(blocks.blockOf[step(dfa, other, byte)]);
          }
        }
      }),
      { numRuns: 150 },
    );
  }, 60_000);
});

describe('determinisation', () => {
  it('stops at its bound and names what makes it grow', () => {
    const exploding = '/**/*a??????????????????';
    let error: unknown;
    try {
      automaton(['/etc/**', '/usr/*/x', exploding, '/tmp/**/*.sh']);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(AutomatonTooLarge);
    expect((error as AutomatonTooLarge).culprits[0]).toBe(2);
  });
});

describe('the cell table', () => {
  it('gives back every row that was put in, and nothing else', () => {
    const row = fc.tuple(
      fc.nat(1000),
      fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 300 }), fc.nat(1000)), {
        selector: ([column]) => column,
        maxLength: 20,
      }),
    );
    fc.assert(
      fc.property(fc.array(row, { maxLength: 60 }), (rows) => {
        const cells = new CellTable(1 << 20, 301);
        for (const [otherwise, exceptions] of rows) {
          cells.begin();
          cells.put(0, otherwise);
          for (const [column, value] of exceptions.sort((a, b) => a[0] - b[0])) cells.put(column, value);
        }
        const { base, words } = cells.pack();
        expect(new Set(base).size).toBe(rows.length + 1);
        rows.forEach(([otherwise, exceptions], i) => {
          const at = base[i + 1];
          const expected = new Map(exceptions);
          for (let column = 1; column <= 300; column++) {
            const owned = words[(at + column) * 2 + 1] === at;
            const value = words[(owned ? at + column : at) * 2];
            expect(owned).toBe(expected.has(column));
            expect(value).toBe(expected.get(column) ?? otherwise);
          }
        });
      }),
    );
  }, 60_000);
});

describe('the layout', () => {
  const header = readFileSync(new URL('../../bpf/tables.h', import.meta.url), 'utf8').replaceAll(
    /\/\*[\s\S]*?\*\//g,
    '',
  );

  it('has the numbers of bpf/tables.h', () => {
    const found: Record<string, Record<string, number>> = {};
    for (const [, name, body] of header.matchAll(/enum (\w+) \{([^}]*)\};/g)) {
      const values: Record<string, number> = {};
      let next = 0;
      for (const entry of body
        .split(',')
        .map((each) => each.trim())
        .filter((each) => each !== '')) {
        const [member, value] = entry.split('=').map((each) => each.trim());
        if (value !== undefined) next = values[value] ?? Number(value);
        values[member] = next++;
      }
      found[name] = values;
    }
    expect(found).toEqual(enums);
    const define = (name: string) =>
      Number(header.match(new RegExp(`#define ${name} (\\w+)`))?.[1].replace(/u$/, ''));
    expect([
      define('TABLES_MAGIC'),
      define('CELL_FREE'),
      define('CHAIN_LIMIT'),
      define('WAITING_LIMIT'),
    ]).toEqual([TABLES_MAGIC, CELL_FREE, CHAIN_LIMIT, WAITING_LIMIT]);
    expect(header).toContain('#define ACTIVE_DENIES (1u << 31)');
    expect(ACTIVE_DENIES >>> 0).toBe(2 ** 31);
  });
});
