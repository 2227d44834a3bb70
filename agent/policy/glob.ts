/**
 * What a pattern says: text to syntax tree.
 *
 * - `*` any run of bytes other than `/`; as a whole component it is at least one byte
 * - `**` any run of bytes; as a whole component before a slash it is zero or more components
 *   (a pattern of `/tmp/`, `**`, `/x` names /tmp/x and /tmp/a/b/x); as the last component everything below
 * - `?` one character
 * - `[a-z]` one character of the set, `[!a]` or `[^a]` one outside it
 * - `{a,b}` either, nested at will, the options may be empty
 * - `\c` the character c itself
 *
 * A leading dot is a character like any other. A character is a well-formed UTF-8 sequence (RFC 3629, section 4);
 * names need not be UTF-8, so a byte that cannot begin one (80-C1, F5-FF) counts as a character too for `?` and
 * `[!...]`; what else is malformed is matched by `*` and `**` alone. No character of a set is ever `/`.
 */

export interface CodeRange {
  /** Code points, inclusive. */
  readonly from: number;
  readonly to: number;
}

export type GlobNode =
  | { readonly kind: 'literal'; readonly bytes: Uint8Array }
  /** One character; ranges ascend and do not touch; `stray`: also a byte that begins no character. */
  | { readonly kind: 'set'; readonly ranges: readonly CodeRange[]; readonly stray: boolean }
  /** A run of at least `min` bytes; `deep`: slashes too. */
  | { readonly kind: 'run'; readonly deep: boolean; readonly min: 0 | 1 }
  /** Zero or more components, each with the slash after it. */
  | { readonly kind: 'components' }
  | { readonly kind: 'either'; readonly options: readonly (readonly GlobNode[])[] };

export interface Glob {
  readonly pattern: string;
  readonly nodes: readonly GlobNode[];
  /** The bytes before the first wildcard character. */
  readonly prefix: Uint8Array;
}

/** The pattern is not one; `offset` counts UTF-16 units from the pattern's beginning. */
export class GlobError extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.name = 'GlobError';
    this.offset = offset;
  }
}

const MAX_DEPTH = 64;
const MAX_BYTES = 4096;
const LAST_CODE = 0x10ffff;
const SLASH_CODE = 0x2f;
const encoder = new TextEncoder();

/** Stars and slashes as written; what they mean depends on their neighbours. */
type Token =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'slash' }
  | { readonly kind: 'star'; readonly deep: boolean }
  | { readonly kind: 'set'; readonly ranges: readonly CodeRange[]; readonly stray: boolean }
  | { readonly kind: 'either'; readonly options: readonly (readonly Token[])[] };

/** @throws GlobError */
export function parseGlob(pattern: string): Glob {
  if (pattern === '') throw new GlobError('the pattern is empty', 0);
  if (encoder.encode(pattern).length > MAX_BYTES) {
    throw new GlobError(`the pattern is longer than ${MAX_BYTES} bytes`, MAX_BYTES);
  }
  const tokens = new Tokenizer(pattern).whole();
  const nodes = resolve(tokens, true, true);
  const first = nodes[0];
  const prefix = first?.kind === 'literal' ? first.bytes : new Uint8Array(0);
  return { pattern, nodes, prefix };
}

/** The bytes before the first wildcard character (`*`, `?`, `[`, `{`): all names that match begin so. */
export function literalPrefix(glob: Glob): Uint8Array {
  return glob.prefix;
}

/**
 * Whether a deterministic automaton for it may be exponentially larger than the pattern: after a run, what follows is
 * read at many places at once, and sets keep them all alive.
 */
export function mayExplode(glob: Glob): boolean {
  const run = glob.nodes.findIndex(({ kind }) => kind !== 'literal' && kind !== 'set');
  return run >= 0 && glob.nodes.slice(run).some(({ kind }) => kind === 'set' || kind === 'either');
}

class Tokenizer {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): Token[] {
    const tokens = this.#sequence(0);
    if (this.#at < this.#text.length) throw new Error('unreachable: a sequence ends at the end');
    return tokens;
  }

  /** Up to the end, or in braces up to the `,` or `}` that ends the option. */
  #sequence(depth: number): Token[] {
    const tokens: Token[] = [];
    let literal = '';
    const flush = () => {
      if (literal !== '') tokens.push({ kind: 'text', text: literal });
      literal = '';
    };
    while (this.#at < this.#text.length) {
      const c = this.#text[this.#at];
      if (depth > 0 && (c === ',' || c === '}')) break;
      if (c === '/' || c === '*' || c === '?' || c === '[' || c === '{') {
        flush();
        if (c === '/') {
          this.#at++;
          tokens.push({ kind: 'slash' });
        } else if (c === '*') tokens.push(this.#star());
        else if (c === '?') {
          this.#at++;
          tokens.push(anyCharacter);
        } else if (c === '[') tokens.push(this.#set());
        else tokens.push(this.#either(depth + 1));
        continue;
      }
      const character = this.#character('the pattern');
      if (character === '/') {
        flush();
        tokens.push({ kind: 'slash' });
      } else literal += character;
    }
    flush();
    return tokens;
  }

  /** One character, escaped or not. */
  #character(where: string): string {
    const start = this.#at;
    let code = this.#text.codePointAt(this.#at);
    if (code === 0x5c) {
      this.#at++;
      code = this.#text.codePointAt(this.#at);
      if (code === undefined) throw new GlobError(`${where} ends in a backslash; write \\\\ for one`, start);
    }
    if (code === undefined) throw new GlobError(`${where} ends too early`, start);
    if (code === 0) throw new GlobError('a name holds no NUL', start);
    if (code >= 0xd800 && code <= 0xdfff)
      throw new GlobError('half of a surrogate pair is no character', start);
    const character = String.fromCodePoint(code);
    this.#at += character.length;
    return character;
  }

  #star(): Token {
    const start = this.#at;
    while (this.#text[this.#at] === '*') this.#at++;
    return { kind: 'star', deep: this.#at - start > 1 };
  }

  #set(): Token {
    const start = this.#at++;
    const negated = this.#text[this.#at] === '!' || this.#text[this.#at] === '^';
    if (negated) this.#at++;
    const ranges: CodeRange[] = [];
    let first = true;
    for (;;) {
      const c = this.#text[this.#at];
      if (c === undefined) throw new GlobError('"[" without "]"; write \\[ for the character itself', start);
      if (c === ']' && !first) break;
      first = false;
      const at = this.#at;
      const from = this.#member(start);
      let to = from;
      if (this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']') {
        this.#at++;
        to = this.#member(start);
      }
      if (to < from) throw new GlobError('the range runs backwards; write the lower character first', at);
      if (from === to && from === SLASH_CODE) {
        throw new GlobError('"/" stands between components and cannot be in [...]', at);
      }
      ranges.push({ from, to });
    }
    this.#at++;
    const merged = merge(ranges);
    return negated
      ? { kind: 'set', ranges: withoutSlash(complement(merged)), stray: true }
      : { kind: 'set', ranges: withoutSlash(merged), stray: false };
  }

  #member(start: number): number {
    if (this.#at >= this.#text.length) {
      throw new GlobError('"[" without "]"; write \\[ for the character itself', start);
    }
    return this.#character('the set').codePointAt(0) ?? 0;
  }

  #either(depth: number): Token {
    const start = this.#at++;
    if (depth > MAX_DEPTH) throw new GlobError(`braces are nested deeper than ${MAX_DEPTH}`, start);
    const options: (readonly Token[])[] = [];
    for (;;) {
      options.push(this.#sequence(depth));
      const c = this.#text[this.#at];
      if (c === undefined) throw new GlobError('"{" without "}"; write \\{ for the character itself', start);
      this.#at++;
      if (c === '}') return { kind: 'either', options };
    }
  }
}

/** Settles what stars mean. `opens`: a component begins before the first token; `closes`: one ends after the last. */
function resolve(tokens: readonly Token[], opens: boolean, closes: boolean): GlobNode[] {
  const nodes: GlobNode[] = [];
  let text = '';
  const flush = () => {
    if (text !== '') nodes.push({ kind: 'literal', bytes: encoder.encode(text) });
    text = '';
  };
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i];
    if (token.kind === 'text') text += token.text;
    else if (token.kind === 'slash') text += '/';
    else {
      flush();
      const last = i === tokens.length - 1;
      const begins = i === 0 ? opens : tokens[i - 1].kind === 'slash';
      const finishes = last ? closes : tokens[i + 1].kind === 'slash';
      if (token.kind === 'set') nodes.push(token);
      else if (token.kind === 'either') {
        const options = token.options.map((option) => resolve(option, begins, finishes));
        nodes.push({ kind: 'either', options });
      } else if (token.deep && begins && !last && finishes) {
        nodes.push({ kind: 'components' });
        i++;
      } else nodes.push({ kind: 'run', deep: token.deep, min: begins && finishes ? 1 : 0 });
    }
  }
  flush();
  return nodes;
}

function merge(ranges: readonly CodeRange[]): CodeRange[] {
  const sorted = [...ranges].sort((a, b) => a.from - b.from || a.to - b.to);
  const merged: { from: number; to: number }[] = [];
  for (const { from, to } of sorted) {
    const last = merged.at(-1);
    if (last && from <= last.to + 1) last.to = Math.max(last.to, to);
    else merged.push({ from, to });
  }
  return merged;
}

function complement(ranges: readonly CodeRange[]): CodeRange[] {
  const rest: CodeRange[] = [];
  let from = 1;
  for (const range of ranges) {
    if (range.from > from) rest.push({ from, to: range.from - 1 });
    from = range.to + 1;
  }
  if (from <= LAST_CODE) rest.push({ from, to: LAST_CODE });
  return rest;
}

function withoutSlash(ranges: readonly CodeRange[]): CodeRange[] {
  return ranges.flatMap(({ from, to }) => {
    if (to < SLASH_CODE || from > SLASH_CODE) return [{ from, to }];
    const parts: CodeRange[] = [];
    if (from < SLASH_CODE) parts.push({ from, to: SLASH_CODE - 1 });
    if (to > SLASH_CODE) parts.push({ from: SLASH_CODE + 1, to });
    return parts;
  });
}

const anyCharacter: Token = { kind: 'set', ranges: withoutSlash(complement([])), stray: true };
