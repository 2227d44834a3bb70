import type { CellTable, RowRef } from './cells.js';
import type { Decider } from './decide.js';
import type { Dfa } from './dfa.js';
import { enums } from './layout.js';
import { minimise } from './minimise.js';

const { COLUMN_DEFAULT, COLUMN_END, COLUMN_SUBJECT, COLUMN_BYTE } = enums.column;

/** Per object class its row; a class that decides nothing needs none and has the dead row. */
export function emitObjectClasses(cells: CellTable, decider: Decider): RowRef[] {
  return Array.from({ length: decider.count }, (_, objectClass) => {
    const { base, exceptions } = decider.rowOf(objectClass);
    if (base === 0 && exceptions.length === 0) return 0;
    const row = cells.begin();
    cells.put(COLUMN_DEFAULT, base);
    for (let i = 0; i < exceptions.length; i += 2) cells.put(exceptions[i], exceptions[i + 1]);
    return row;
  });
}

/**
 * Minimises an automaton and adds its rows.
 *
 * @param classes per accept set its object class, set 0 being what no rule names
 * @param subjects per accept set its subject class; undefined = the inputs are no programs
 * @param objectRef per object class its row; undefined = a mere 1 marks where an input may end
 */
export function emitAutomaton(
  cells: CellTable,
  dfa: Dfa,
  classes: Int32Array,
  subjects: Int32Array | undefined,
  objectRef: readonly RowRef[] | undefined,
): { readonly start: RowRef; readonly states: number } {
  const kinds = new Map<number, number>();
  const kindOf = new Int32Array(dfa.accepts.count);
  for (let set = 0; set < kindOf.length; set++) {
    const key = classes[set] * 65536 + (subjects?.[set] ?? 0);
    let kind = kinds.get(key);
    if (kind === undefined) {
      kind = kinds.size;
      kinds.set(key, kind);
    }
    kindOf[set] = kind;
  }
  const blocks = minimise(
    dfa,
    dfa.accept.map((set) => kindOf[set]),
  );
  const dead = blocks.blockOf[0];
  const refs = new Int32Array(blocks.count);
  let next = cells.next;
  for (let block = 0; block < blocks.count; block++) if (block !== dead) refs[block] = next++;
  const refOf = (state: number) => refs[blocks.blockOf[state]];
  for (let block = 0; block < blocks.count; block++) {
    if (block === dead) continue;
    const state = blocks.member[block];
    const set = dfa.accept[state];
    cells.begin();
    const from = dfa.edgeStart[state];
    const to = dfa.edgeStart[state + 1];
    const common = to - from < 128 ? refOf(dfa.fallback[state]) : commonest(dfa, state, refOf);
    cells.link(COLUMN_DEFAULT, common);
    if (classes[set] !== classes[0]) {
      if (objectRef === undefined) cells.put(COLUMN_END, 1);
      else cells.link(COLUMN_END, objectRef[classes[set]]);
    }
    const subject = subjects?.[set] ?? 0;
    if (subject !== 0) cells.put(COLUMN_SUBJECT, subject);
    if (common === refOf(dfa.fallback[state])) {
      for (let e = from; e < to; e++) {
        const ref = refOf(dfa.edgeTo[e]);
        if (ref !== common) cells.link(COLUMN_BYTE + dfa.edgeByte[e], ref);
      }
    } else {
      for (let byte = 0, e = from; byte < 256; byte++) {
        const ref = e < to && dfa.edgeByte[e] === byte ? refOf(dfa.edgeTo[e++]) : refOf(dfa.fallback[state]);
        if (ref !== common) cells.link(COLUMN_BYTE + byte, ref);
      }
    }
  }
  return { start: refs[blocks.blockOf[dfa.start]], states: blocks.count };
}

/** Where most bytes lead; of several the lowest row. */
function commonest(dfa: Dfa, state: number, refOf: (state: number) => number): number {
  const tally = new Map<number, number>();
  const count = dfa.edgeStart[state + 1] - dfa.edgeStart[state];
  tally.set(refOf(dfa.fallback[state]), 256 - count);
  for (let e = dfa.edgeStart[state]; e < dfa.edgeStart[state + 1]; e++) {
    const ref = refOf(dfa.edgeTo[e]);
    tally.set(ref, (tally.get(ref) ?? 0) + 1);
  }
  return [...tally].reduce((best, each) =>
    each[1] > best[1] || (each[1] === best[1] && each[0] < best[0]) ? each : best,
  )[0];
}
