import type { CodeRange } from './glob.js';

/** One byte range per byte of a sequence: [lo, hi, lo, hi, ...]. */
export type ByteSequence = readonly number[];

const LENGTH_ENDS = [0x7f, 0x7ff, 0xffff, 0x10ffff];

/**
 * The byte sequences of a range of code points, as few as there can be, surrogates left out.
 *
 * The splitting is the one of RE2 (R. Cox, "Regular Expression Matching in the Wild", 2010, "Compile UTF-8"): cut
 * where the encoded length changes, then where the trailing bytes do not run from 80 to BF.
 */
export function utf8Sequences(range: CodeRange): ByteSequence[] {
  const out: ByteSequence[] = [];
  if (range.from < 0xd800 && range.to > 0xdfff) {
    split(range.from, 0xd7ff, out);
    split(0xe000, range.to, out);
  } else {
    const from = range.from >= 0xd800 && range.from <= 0xdfff ? 0xe000 : range.from;
    const to = range.to >= 0xd800 && range.to <= 0xdfff ? 0xd7ff : range.to;
    if (from <= to) split(from, to, out);
  }
  return out;
}

function split(from: number, to: number, out: ByteSequence[]): void {
  for (const end of LENGTH_ENDS) {
    if (from <= end && end < to) {
      split(from, end, out);
      split(end + 1, to, out);
      return;
    }
  }
  if (to <= 0x7f) {
    out.push([from, to]);
    return;
  }
  for (let shift = 6; shift <= 18; shift += 6) {
    const mask = (1 << shift) - 1;
    if ((from & ~mask) === (to & ~mask)) break;
    if ((from & mask) !== 0) {
      split(from, from | mask, out);
      split((from | mask) + 1, to, out);
      return;
    }
    if ((to & mask) !== mask) {
      split(from, (to & ~mask) - 1, out);
      split(to & ~mask, to, out);
      return;
    }
  }
  const low = encode(from);
  const high = encode(to);
  out.push(low.flatMap((byte, i) => [byte, high[i]]));
}

function encode(code: number): number[] {
  if (code <= 0x7f) return [code];
  if (code <= 0x7ff) return [0xc0 | (code >> 6), 0x80 | (code & 63)];
  if (code <= 0xffff) return [0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63)];
  return [0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63)];
}

/** Bytes that begin no character: [lo, hi] pairs. */
export const STRAY_BYTES: readonly (readonly [number, number])[] = [
  [0x80, 0xc1],
  [0xf5, 0xff],
];
