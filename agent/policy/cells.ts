import { CELL_FREE, enums } from './layout.js';
import { grown } from './sets.js';

const { COLUMN_BYTE } = enums.column;

/** A row of the table before it has a place; row 0 is the dead one. */
export type RowRef = number;

/** Candidates tried per row among old cells, and again among the last; what fits in neither goes to the end. */
const MAX_TRIES = 128;
const WINDOW = 1 << 13;

export class TooManyCells extends Error {}

/**
 * Packs sparse rows into one array of cells by row displacement (R. Tarjan and A. Yao, "Storing a sparse table",
 * 1979): the fullest first, each at the first base where its columns fall on free cells. Rows of equal columns need
 * never look before the place of the last of them, which is what makes first fit quick here.
 *
 * Rows are numbered from 1 in order of `begin`; they may link to rows that come later.
 */
export class CellTable {
  #rowStart = new Int32Array(1024);
  #rows = 0;
  #column = new Int32Array(4096);
  #value = new Int32Array(4096);
  #isLink = new Uint8Array(4096);
  #end = 0;
  #resume = 0;
  /** Columns that a reader may ask any row for. */
  readonly #columns: number;
  readonly #limit: number;

  /**
   * @param limit cells there may be, holes and padding aside
   * @param subjects subject classes, the columns of object classes
   */
  constructor(limit: number, subjects: number) {
    this.#limit = limit;
    this.#columns = Math.max(COLUMN_BYTE + 256, subjects);
  }

  get rows(): number {
    return this.#rows;
  }

  /** The number that the next `begin` returns. */
  get next(): RowRef {
    return this.#rows + 1;
  }

  /** Begins a row; its columns follow by `put` and `link`, column 0 first, ascending. */
  begin(): RowRef {
    const row = ++this.#rows;
    if (row + 1 >= this.#rowStart.length) this.#rowStart = grown(this.#rowStart, row + 2);
    this.#rowStart[row] = this.#end;
    this.#rowStart[row + 1] = this.#end;
    return row;
  }

  put(column: number, value: number): void {
    this.#cell(column, value, 0);
  }

  link(column: number, row: RowRef): void {
    this.#cell(column, row, 1);
  }

  #cell(column: number, value: number, isLink: number): void {
    const at = this.#end++;
    if (at >= this.#limit) throw new TooManyCells('the tables outgrow their bound');
    if (at === this.#column.length) {
      this.#column = grown(this.#column, at + 1);
      this.#value = grown(this.#value, at + 1);
      this.#isLink = grown(this.#isLink, at + 1);
    }
    this.#column[at] = column;
    this.#value[at] = value;
    this.#isLink[at] = isLink;
    this.#rowStart[this.#rows + 1] = this.#end;
  }

  /** `base[row]` for every row; `words`: two per cell, next then check (a little-endian u64 each), padded. */
  pack(): { readonly base: Int32Array; readonly words: Uint32Array; readonly used: number } {
    const base = new Int32Array(this.#rows + 1);
    const [column, value, isLink, rowStart] = [this.#column, this.#value, this.#isLink, this.#rowStart];
    const space = new FreeCells(this.#end + this.#columns);
    space.take(0);
    const lastOf = new Map<number, number>();
    for (const row of this.#byFullness()) {
      const shape = this.#shape(row);
      const at = this.#fit(row, lastOf.get(shape) ?? 1, space);
      lastOf.set(shape, this.#resume);
      base[row] = at;
      const end = rowStart[row + 1];
      for (let i = rowStart[row]; i < end; i++) space.take(at + column[i]);
    }
    const length = space.end + this.#columns;
    const words = new Uint32Array(length * 2);
    words.fill(CELL_FREE);
    words[0] = 0;
    words[1] = 0;
    for (let row = 1; row <= this.#rows; row++) {
      const at = base[row];
      const end = rowStart[row + 1];
      for (let i = rowStart[row]; i < end; i++) {
        const cell = (at + column[i]) * 2;
        words[cell] = isLink[i] === 1 ? base[value[i]] : value[i];
        words[cell + 1] = at;
      }
    }
    return { base, words, used: this.#end + 1 };
  }

  /** Rows by falling number of cells, then rising number. */
  #byFullness(): Int32Array {
    let most = 0;
    const size = (row: number) => this.#rowStart[row + 1] - this.#rowStart[row];
    for (let row = 1; row <= this.#rows; row++) most = Math.max(most, size(row));
    const start = new Int32Array(most + 2);
    for (let row = 1; row <= this.#rows; row++) start[most - size(row) + 1]++;
    for (let i = 1; i < start.length; i++) start[i] += start[i - 1];
    const order = new Int32Array(this.#rows);
    for (let row = 1; row <= this.#rows; row++) order[start[most - size(row)]++] = row;
    return order;
  }

  /** A hash of a row's columns. Different shapes of one hash only cost holes. */
  #shape(row: number): number {
    let hash = 0;
    for (let i = this.#rowStart[row]; i < this.#rowStart[row + 1]; i++) {
      hash = Math.imul(hash ^ this.#column[i], 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    return hash;
  }

  /** Where the row goes; leaves in `#resume` where the next of its shape should look from. */
  #fit(row: number, from: number, space: FreeCells): number {
    let at = this.#tries(row, from, space);
    this.#resume = Math.abs(at);
    if (at >= 0) return at;
    at = this.#tries(row, Math.max(-at, space.end - WINDOW), space);
    return at >= 0 ? at : Math.max(-at, space.end);
  }

  /** The first base from `from` on that fits, or after so many failures, negated, where to go on. */
  #tries(row: number, from: number, space: FreeCells): number {
    const column = this.#column;
    const start = this.#rowStart[row];
    const end = this.#rowStart[row + 1];
    let at = space.from(from);
    for (let tries = 0; tries < MAX_TRIES && at < space.end; tries++) {
      let i = end - 1;
      while (i > start && space.isFree(at + column[i])) i--;
      if (i === start) return at;
      at = space.from(at + 1);
    }
    return at >= space.end ? at : -at;
  }
}

/** Which cells are free, and the next one that is: union-find over runs of taken cells. */
class FreeCells {
  #next: Int32Array;
  /** One past the last taken cell. */
  end = 0;

  constructor(size: number) {
    this.#next = new Int32Array(0);
    this.#grow(size);
  }

  #grow(size: number): void {
    const from = this.#next.length;
    this.#next = from === 0 ? new Int32Array(size) : grown(this.#next, size);
    for (let i = from; i < this.#next.length; i++) this.#next[i] = i;
  }

  isFree(cell: number): boolean {
    return cell >= this.#next.length || this.#next[cell] === cell;
  }

  take(cell: number): void {
    if (cell + 1 >= this.#next.length) this.#grow(cell + 2);
    this.#next[cell] = cell + 1;
    if (cell >= this.end) this.end = cell + 1;
  }

  /** The first free cell at or after `cell`. */
  from(cell: number): number {
    if (cell >= this.#next.length) return cell;
    let root = cell;
    while (this.#next[root] !== root) {
      root = this.#next[root];
      if (root >= this.#next.length) return root;
    }
    for (let c = cell; c !== root; ) {
      const next = this.#next[c];
      this.#next[c] = root;
      c = next;
    }
    return root;
  }
}
