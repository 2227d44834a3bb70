import { isMap, isScalar, isSeq, type Node, Scalar } from 'yaml';
import type { Entry, Source } from './source.js';
import { suggestion } from './vocabulary.js';

/** How many unknown fields of one mapping are told. */
const MAX_UNKNOWN = 100;

/**
 * Typed access to the fields of a YAML mapping. Each getter reports what is wrong, at the node concerned, and
 * answers undefined for "absent or unusable": the caller goes on, and the policy is rejected as a whole later.
 */
export class Fields {
  readonly source: Source;
  /** What this mapping is called in messages, e.g. `process.matchPaths[2]`. */
  readonly what: string;
  readonly node: Node;
  readonly #entries: ReadonlyMap<string, Entry>;

  constructor(source: Source, node: Node, what: string) {
    this.source = source;
    this.node = node;
    this.what = what;
    this.#entries = new Map(source.entries(node, what).map((entry) => [entry.name, entry]));
  }

  /** The fields of `node`, or undefined (reported) when it is no mapping. Null counts as an empty mapping. */
  static of(source: Source, node: Node | null, what: string, where: Node): Fields | undefined {
    if (node === null) return new Fields(source, where, what);
    if (isMap(node)) return new Fields(source, node, what);
    source.error(node, `${what} must be a mapping of fields, not ${typeName(node)}`);
    return undefined;
  }

  get names(): readonly string[] {
    return [...this.#entries.keys()];
  }

  entry(name: string): Entry | undefined {
    return this.#entries.get(name);
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  entries(): Iterable<Entry> {
    return this.#entries.values();
  }

  /** Reports every field that is not among `known`; `hints` say more about likely mistakes. */
  allow(known: readonly string[], hints: Readonly<Record<string, string>> = {}): void {
    let unknown = 0;
    for (const { name, key } of this.#entries.values()) {
      if (known.includes(name)) continue;
      if (++unknown > MAX_UNKNOWN) {
        this.source.error(
          key,
          `more unknown fields follow in ${this.what}; this is hardly meant to be a policy`,
        );
        return;
      }
      const hint = hints[name];
      const advice =
        hint === undefined
          ? suggestion(name, known) || `; known here: ${known.slice(0, 14).join(', ')}`
          : `; ${hint}`;
      this.source.error(key, `unknown field "${name}" in ${this.what}${advice}`);
    }
  }

  /** The field's value; a field without one is doubtful, and counts as absent. */
  value(name: string): Node | undefined {
    const entry = this.#entries.get(name);
    if (entry === undefined) return undefined;
    if (entry.value !== null) return entry.value;
    this.source.warn(entry.key, `"${name}" in ${this.what} has no value; give it one, or leave it out`);
    return undefined;
  }

  /** As `value`, but absence is an error at `where` (this mapping by default). */
  required(name: string, advice: string, where: Node = this.node): Node | undefined {
    const entry = this.#entries.get(name);
    if (entry?.value != null) return entry.value;
    this.source.error(entry?.key ?? where, `${this.what} has no ${name}; ${advice}`);
    return undefined;
  }

  text(name: string): string | undefined {
    const node = this.value(name);
    return node === undefined ? undefined : asText(this.source, node, `${this.what}.${name}`);
  }

  flag(name: string): boolean | undefined {
    const node = this.value(name);
    if (node === undefined) return undefined;
    if (isScalar(node)) {
      if (typeof node.value === 'boolean') return node.value;
      const old =
        node.type === Scalar.PLAIN ? YAML_1_1_BOOLEANS.get(String(node.value).toLowerCase()) : undefined;
      if (old !== undefined) return old;
    }
    this.source.error(node, `${this.what}.${name} must be true or false, not ${typeName(node)}`);
    return undefined;
  }

  integer(name: string, least: number, greatest: number, advice = ''): number | undefined {
    const node = this.value(name);
    if (node === undefined) return undefined;
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value === 'number' && Number.isInteger(value)) {
      if (value >= least && value <= greatest) return value;
      this.source.error(node, `${this.what}.${name} is ${value}; it must be from ${least} to ${greatest}`);
      return undefined;
    }
    const quoted = typeof value === 'string' && /^\d+$/.test(value) ? ' in quotes; leave them out' : '';
    this.source.error(
      node,
      `${this.what}.${name} must be a whole number from ${least} to ${greatest}, not ${typeName(node)}${quoted}${advice}`,
    );
    return undefined;
  }

  /** One of a closed set of words, exactly as written there. */
  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const node = this.value(name);
    if (node === undefined) return undefined;
    const written = asText(this.source, node, `${this.what}.${name}`);
    if (written === undefined) return undefined;
    const found = choices.find((choice) => choice === written);
    if (found !== undefined) return found;
    const advice = suggestion(written, choices) || `; write one of ${choices.join(', ')}`;
    this.source.error(node, `${this.what}.${name} cannot be "${short(written)}"${advice}`);
    return undefined;
  }

  /** The items of a list, aliases resolved; items without a value are reported and left out. */
  items(name: string): { readonly node: Node; readonly index: number }[] | undefined {
    const node = this.value(name);
    return node === undefined ? undefined : asList(this.source, node, `${this.what}.${name}`);
  }

  texts(name: string): string[] | undefined {
    return this.items(name)?.flatMap(
      ({ node, index }) => asText(this.source, node, `${this.what}.${name}[${index}]`) ?? [],
    );
  }

  /** The mapping in a field, or undefined when the field is absent or no mapping. */
  fields(name: string, what = `${this.what}.${name}`): Fields | undefined {
    const node = this.value(name);
    return node === undefined ? undefined : Fields.of(this.source, node, what, node);
  }

  /** The mappings in a list. */
  list(name: string, what = `${this.what}.${name}`): Fields[] {
    const found: Fields[] = [];
    for (const { node, index } of this.items(name) ?? []) {
      const item = Fields.of(this.source, node, `${what}[${index}]`, node);
      if (item !== undefined) found.push(item);
    }
    return found;
  }
}

/** Kubernetes reads policies as YAML 1.1, where these plain words are booleans too. */
const YAML_1_1_BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ['yes', true],
  ['on', true],
  ['y', true],
  ['no', false],
  ['off', false],
  ['n', false],
]);

export function asText(source: Source, node: Node, what: string): string | undefined {
  if (isScalar(node) && typeof node.value === 'string') return node.value;
  const advice = isScalar(node) ? '; put it in quotes' : '';
  source.error(node, `${what} must be text, not ${typeName(node)}${advice}`);
  return undefined;
}

export function asList(
  source: Source,
  node: Node,
  what: string,
): { readonly node: Node; readonly index: number }[] | undefined {
  if (!isSeq(node)) {
    source.error(node, `${what} must be a list, not ${typeName(node)}; begin each item with "- "`);
    return undefined;
  }
  const items: { node: Node; index: number }[] = [];
  node.items.forEach((item, index) => {
    const value = source.resolve(item);
    if (value !== null) items.push({ node: value, index });
    else
      source.error((item as Node | null) ?? node, `${what}[${index}] is empty; fill it in, or take it out`);
  });
  return items;
}

export function typeName(node: Node): string {
  if (isMap(node)) return 'a mapping';
  if (isSeq(node)) return 'a list';
  const value = isScalar(node) ? node.value : undefined;
  if (typeof value === 'number' || typeof value === 'bigint') return `the number ${value}`;
  if (typeof value === 'boolean') return `the boolean ${value}`;
  return typeof value === 'string' ? `the text "${short(value)}"` : 'a value of another type';
}

/** A value as it may stand in a one-line message: in the log, so of a URL without user and password. */
export function short(text: string): string {
  const [user, host] = [text.indexOf('://'), text.lastIndexOf('@')];
  const said = user >= 0 && user < host ? `${text.slice(0, user)}://...${text.slice(host)}` : text;
  const escaped = JSON.stringify(said.slice(0, 100)).slice(1, -1).replaceAll('\\"', '"');
  return escaped.length > 60 ? `${escaped.slice(0, 57)}...` : escaped;
}
