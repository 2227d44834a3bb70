import type { CellTable, RowRef } from './cells.js';
import { type Bounds, determinise } from './dfa.js';
import { Nfa } from './nfa.js';
import { emitAutomaton } from './rows.js';

const encoder = new TextEncoder();

/**
 * Adds an automaton per list that reads `(argument NUL)*`, the arguments after the first; it may end only where all
 * were listed.
 *
 * @param lists each a JSON array of the arguments allowed
 * @returns per list's number, counted from 1, its first state
 */
export function allowedArgs(cells: CellTable, lists: readonly string[], bounds: Bounds): RowRef[] {
  const starts: RowRef[] = [0];
  for (const list of lists) {
    const allowed: string[] = JSON.parse(list);
    const nfa = new Nfa();
    nfa.accept(0, 0);
    for (const argument of allowed) nfa.edge(nfa.trie(0, encoder.encode(argument)), 0, 0, 0);
    starts.push(
      emitAutomaton(cells, determinise(nfa, bounds), Int32Array.of(0, 1), undefined, undefined).start,
    );
  }
  return starts;
}
