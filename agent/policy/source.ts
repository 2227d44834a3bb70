import {
  type Alias,
  CST,
  type Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  type Pair,
  parseAllDocuments,
  visit,
} from 'yaml';
import type { Diagnostic, Position } from './model.js';
import { type SyntaxFault, syntaxFault } from './syntax.js';

/** The longest policy file that is read, in bytes. A policy of a hundred rules has some 10 KiB. */
export const MAX_FILE_BYTES = 1 << 20;

/**
 * How many nodes one text may make us look at. A text of the greatest length has fewer than this; only aliases
 * of aliases come near it. A long scalar counts as many.
 */
const MAX_VISITS = 1_000_000;

/**
 * How many words, marks and breaks of YAML one text may have. A text of the greatest length has some 220 000, as JSON 310 000; each
 * costs the parser a few microseconds, and nothing else is done meanwhile.
 */
const MAX_LEXEMES = 350_000;

/** How many diagnostics of one text are told. */
const MAX_TOLD = 10_000;

/** What a name may have in it and no line of a terminal or a log should. */
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}]/gu;
const escaped = (c: string) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Thrown inside the reader when aliases expand without end; never leaves `readPolicies`. */
export class Exhausted extends Error {}

/** One entry of a YAML mapping, aliases resolved. `value` is null where nothing, or `null`, was written. */
export interface Entry {
  readonly name: string;
  readonly key: Node;
  readonly value: Node | null;
}

/**
 * A policy text under examination: its documents, the positions of their nodes, and what has been found wrong.
 * All reading functions report here and go on, so that one run finds every fault.
 */
export class Source {
  readonly file: string;
  readonly documents: readonly Document.Parsed[];
  /** The text was refused before parsing, and why has been reported. */
  readonly unreadable: boolean = false;
  readonly #text: string;
  readonly #diagnostics: Diagnostic[] = [];
  readonly #lines = new LineCounter();
  #targets: ReadonlyMap<Alias, Node> = new Map();
  readonly #told = new Set<string>();
  #errors = 0;
  #visits = 0;

  constructor(text: string, file: string) {
    this.file = file;
    this.#text = text;
    // The library's own count leaves out the breaks of some lines that it cannot make sense of.
    this.#lines.addNewLine(0);
    for (const match of text.matchAll(/\n/g)) this.#lines.addNewLine(match.index + 1);
    const refused = refusal(text);
    const parsed = refused === undefined ? parse(text) : undefined;
    this.documents = parsed ?? [];
    if (parsed !== undefined) return;
    this.unreadable = true;
    const { offset, message } = refused ?? {
      offset: 0,
      message: 'the YAML nests too deeply; no policy needs that, so check the indentation',
    };
    this.error(offset, message);
  }

  get diagnostics(): readonly Diagnostic[] {
    return this.#diagnostics;
  }

  /** How many errors (not warnings) have been reported so far. */
  get errors(): number {
    return this.#errors;
  }

  /**
   * Reports what keeps a document from being read, and what follows from that.
   * @returns whether something does
   */
  reportSyntax(document: Document.Parsed, consequence = ''): boolean {
    const fault = syntaxFault(document, this.#text);
    if (fault !== undefined) this.error(fault.offset, `YAML syntax: ${fault.message}${consequence}`);
    return fault !== undefined;
  }

  /** Aliases are resolved within one document, to the last anchor of their name that stands before them. */
  enter(document: Document.Parsed): void {
    const anchors = new Map<string, Node>();
    const targets = new Map<Alias, Node>();
    visit(document, {
      Node: (_, node) => {
        if (isAlias(node)) {
          const target = anchors.get(node.source);
          if (target !== undefined) targets.set(node, target);
          else
            this.error(
              node,
              `no anchor "&${node.source}" stands before this alias; define it, or write the value`,
            );
        } else if (node.anchor !== undefined) anchors.set(node.anchor, node);
      },
    });
    this.#targets = targets;
  }

  at(where: Node | number): Position {
    const offset = typeof where === 'number' ? where : (where.range?.[0] ?? 0);
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.file, line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  error(where: Node | number, message: string): void {
    this.#errors++;
    this.#tell({ at: this.at(where), severity: 'error', message });
  }

  warn(where: Node | number, message: string): void {
    this.#tell({ at: this.at(where), severity: 'warning', message });
  }

  /** A node read twice, perhaps through aliases, has its faults told once; and of very many, the first. */
  #tell({ at, severity, message: said }: Diagnostic): void {
    const message = said.replace(CONTROLS, escaped);
    if (this.#diagnostics.length > MAX_TOLD) return;
    if (this.#diagnostics.length === MAX_TOLD) {
      const more = 'more follows that is not told; correct what stands before';
      this.#diagnostics.push({ at, severity: 'error', message: more });
      return;
    }
    const key = `${at.line}:${at.column}:${message}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.#diagnostics.push({ at, severity, message });
  }

  /**
   * The node that an alias stands for, or the node itself; null for a scalar without a value.
   * @throws Exhausted when the text is a bomb.
   */
  resolve(node: unknown): Node | null {
    if (++this.#visits > MAX_VISITS) throw new Exhausted();
    if (isAlias(node)) return this.resolve(this.#targets.get(node));
    if (isScalar(node)) {
      if (typeof node.value === 'string') this.#visits += node.value.length >> 6;
      return node.value === null ? null : node;
    }
    return isMap(node) || isSeq(node) ? node : null;
  }

  /**
   * The entries of a mapping in order, merge keys (`<<`) expanded; keys that are not text and keys written twice
   * are reported, and of the latter the first counts.
   */
  entries(map: Node, what: string): Entry[] {
    const own = new Map<string, Entry>();
    const merged: Entry[] = [];
    for (const pair of pairsOf(map)) {
      const key = pair.key;
      if (isMergeKey(key)) {
        for (const entry of this.#merged(pair.value, what, 0)) merged.push(entry);
        continue;
      }
      const value = this.resolve(pair.value);
      if (!isScalar(key)) {
        this.error(
          (key as Node | null) ?? map,
          `a field's name in ${what} is not plain text; write it as "name: value"`,
        );
        continue;
      }
      const name = key.value === null ? '' : String(key.value);
      const first = own.get(name);
      if (first === undefined) own.set(name, { name, key, value });
      else {
        const { line } = this.at(first.key);
        this.error(key, `"${name}" stands twice in ${what}, first on line ${line}; join the two`);
      }
    }
    for (const entry of merged) if (!own.has(entry.name)) own.set(entry.name, entry);
    return [...own.values()];
  }

  #merged(value: unknown, what: string, depth: number): Entry[] {
    const node = this.resolve(value);
    if (depth > 20 || node === null) return [];
    if (isSeq(node)) return node.items.flatMap((item) => this.#merged(item, what, depth + 1));
    if (!isMap(node)) {
      this.error(node, `"<<" in ${what} takes the fields of another mapping; give it an alias of one`);
      return [];
    }
    const entries: Entry[] = [];
    for (const pair of pairsOf(node)) {
      const key = pair.key;
      if (isMergeKey(key)) {
        for (const entry of this.#merged(pair.value, what, depth + 1)) entries.push(entry);
      } else if (isScalar(key) && key.value !== null) {
        entries.push({ name: String(key.value), key, value: this.resolve(pair.value) });
      }
    }
    return entries;
  }
}

/** Undefined where the library finds no end of nesting. */
function parse(text: string): readonly Document.Parsed[] | undefined {
  // each fault is an Error to the library, and of a hundred thousand the stacks alone would take seconds
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    // Duplicate keys are found in `entries`: the library compares each key with all others before it.
    const parsed = parseAllDocuments(text, {
      prettyErrors: false,
      uniqueKeys: false,
      merge: true,
      logLevel: 'silent',
    });
    return Array.isArray(parsed) ? (parsed as Document.Parsed[]) : [];
  } catch (error) {
    // the stack is full
    if (error instanceof RangeError) return undefined;
    throw error;
  } finally {
    Error.stackTraceLimit = limit;
  }
}

const MAX_DEPTH = 100;

/** Marks that are not in the text. */
const LEXERS_OWN: ReadonlySet<string> = new Set([CST.DOCUMENT, CST.FLOW_END, CST.SCALAR]);

/** What keeps a text from being parsed: nothing that policies need, and parsing it would take long before it gave up. */
function refusal(text: string): SyntaxFault | undefined {
  const deep = (offset: number, check: string): SyntaxFault => ({
    offset,
    message: `the YAML nests too deeply; no policy needs that, so check the ${check}`,
  });
  const indicators = /(?:[-?:][ \t]+){200}/.exec(text);
  if (indicators !== null) return deep(indicators.index, 'indentation');
  let [count, depth, offset] = [0, 0, 0];
  for (const lexeme of new Lexer().lex(text)) {
    if (++count > MAX_LEXEMES)
      return {
        offset,
        message: `more than ${MAX_LEXEMES} words and marks of YAML stand before this; split the file`,
      };
    if (lexeme === '[' || lexeme === '{') {
      if (++depth > MAX_DEPTH) return deep(offset, 'brackets');
    } else if ((lexeme === ']' || lexeme === '}') && depth > 0) depth--;
    if (!LEXERS_OWN.has(lexeme)) offset += lexeme.length;
  }
  return undefined;
}

function pairsOf(map: Node): Pair[] {
  return isMap(map) ? map.items.filter((item) => isPair(item)) : [];
}

function isMergeKey(key: unknown): key is Node {
  return isScalar(key) && (typeof key.value === 'symbol' || (key.value === '<<' && key.type === 'PLAIN'));
}

/**
 * Text of a file's bytes, or the fault that keeps it from being one: too long, or not UTF-8.
 * A byte order mark is left out.
 */
export function decodePolicyFile(
  bytes: Uint8Array,
  file: string,
): { readonly text: string } | { readonly fault: Diagnostic } {
  if (bytes.length > MAX_FILE_BYTES) return { fault: tooLong(file) };
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    // A sequence that breaks off is told where it begins: as a stream, the decoder leaves it out.
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    const before = decoder.decode(bytes.subarray(0, firstInvalidByte(bytes)), { stream: true });
    const lastBreak = before.lastIndexOf('\n');
    const line = before.split('\n').length;
    const byte = (bytes[Buffer.byteLength(before)] ?? 0).toString(16).padStart(2, '0');
    return {
      fault: {
        at: { file, line, column: before.length - lastBreak },
        severity: 'error',
        message: `the byte 0x${byte} here is not UTF-8; save the file as UTF-8`,
      },
    };
  }
}

/** The fault of a text that is longer than is read. */
export function tooLong(file: string): Diagnostic {
  const message =
    'the file is longer than 1 MiB, so it is not read; split it, or take what is no policy out of the directory';
  return { at: { file, line: 1, column: 1 }, severity: 'error', message };
}

/** By halving: a prefix decodes when read as a stream (which lets it end within a character) or it does not. */
function firstInvalidByte(bytes: Uint8Array): number {
  const decodes = (length: number): boolean => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream: true });
      return true;
    } catch {
      return false;
    }
  };
  let good = 0;
  let bad = bytes.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (middle <= bytes.length && decodes(middle)) good = middle;
    else bad = middle;
  }
  return Math.min(good, bytes.length - 1);
}
