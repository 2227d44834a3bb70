import type { RowRef } from './cells.js';
import { type ChainRef, type DecisionTable, ruleOffset } from './decisions.js';
import { structs, TABLES_MAGIC } from './layout.js';

/** What the header says beside sizes; rows by number, before they have a place. */
export interface RegionParts {
  /** Per domain the questions that some name has an answer to. */
  readonly active: readonly number[];
  readonly start: readonly RowRef[];
  readonly none: readonly RowRef[];
  readonly unnamed: RowRef;
  /** Per preset: verdict, audit. */
  readonly presets: readonly (readonly [ChainRef, ChainRef])[];
  /** Per list of arguments its first state. */
  readonly argStarts: readonly RowRef[];
}

/** Lays out a set's bytes: header, cells, decisions, rules. */
export function writeRegion(
  packed: { readonly base: Int32Array; readonly words: Uint32Array },
  table: DecisionTable,
  parts: RegionParts,
): Uint8Array {
  const header = structs.set_header;
  const cells = (header.size + 7) & ~7;
  const decisions = cells + packed.words.byteLength;
  const rules = decisions + table.decisionCount * structs.decision.size;
  const size = rules + table.ruleCount * structs.rule.size;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const put = (at: number, value: number) => view.setUint32(at, value, true);
  put(header.magic, TABLES_MAGIC);
  put(header.regionSize, size);
  put(header.cells, cells);
  put(header.ncells, packed.words.length / 2);
  put(header.decisions, decisions);
  put(header.ndecisions, table.decisionCount);
  put(header.rules, rules);
  put(header.nrules, table.ruleCount);
  parts.active.forEach((mask, domain) => {
    put(header.active + domain * 4, mask);
    put(header.start + domain * 4, packed.base[parts.start[domain]]);
    put(header.none + domain * 4, packed.base[parts.none[domain]]);
  });
  put(header.unnamed, packed.base[parts.unnamed]);
  parts.presets.forEach(([verdict, audit], preset) => {
    put(header.presets + preset * structs.entry.size, ruleOffset(rules, verdict));
    put(header.presets + preset * structs.entry.size + 4, ruleOffset(rules, audit));
  });
  bytes.set(new Uint8Array(packed.words.buffer, packed.words.byteOffset, packed.words.byteLength), cells);
  const argStarts = parts.argStarts.map((row) => packed.base[row]);
  table.write(view, decisions, rules, argStarts);
  return bytes;
}
