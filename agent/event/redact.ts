import { RE2JS } from 're2js';
import type { BelayRecord } from './record.js';

const REDACTED = '[redacted]';

/**
 * Takes out of programs' arguments what must not leave the node. Rules are RE2 expressions: what attackers write is
 * searched in time linear in its length, whatever the rule. They see the arguments joined by blanks; what a rule's groups
 * match is replaced, or what all of it matches if it has no group.
 */
export class Redactor {
  readonly #rules: readonly RE2JS[];

  /** @throws Error when one is no RE2 expression; `redactionFault` says so before */
  constructor(rules: readonly string[]) {
    this.#rules = rules.map((rule) => RE2JS.compile(rule));
  }

  redact<R extends BelayRecord>(record: R): R {
    if (!('process' in record) || record.process === undefined) return record;
    const words = this.words(record.process.arguments);
    return words === record.process.arguments
      ? record
      : { ...record, process: { ...record.process, arguments: words } };
  }

  /** A program's arguments; the same object when there is nothing to take out. */
  words(words: readonly string[]): readonly string[] {
    if (this.#rules.length === 0) return words;
    const text = words.join(' ');
    const spans = this.#rules.flatMap((rule) => spansOf(rule, text)).sort(([a], [b]) => a - b);
    if (spans.length === 0) return words;
    let start = 0;
    return words.map((word) => {
      const [from, to] = [start, start + word.length];
      start = to + 1;
      let out = '';
      let at = from;
      for (const [begin, end] of spans) {
        if (end <= at || begin >= to) continue;
        if (begin > at) out += text.slice(at, begin);
        if (!out.endsWith(REDACTED)) out += REDACTED;
        at = Math.min(end, to);
      }
      return out + text.slice(at, to);
    });
  }
}

function spansOf(rule: RE2JS, text: string): [number, number][] {
  const spans: [number, number][] = [];
  const matcher = rule.matcher(text);
  const groups = matcher.groupCount();
  while (matcher.find()) {
    if (groups === 0) spans.push([matcher.start(), matcher.end()]);
    for (let group = 1; group <= groups; group++)
      if (matcher.start(group) >= 0) spans.push([matcher.start(group), matcher.end(group)]);
  }
  return spans.filter(([begin, end]) => end > begin);
}

/** Why a rule cannot be used; undefined = it can. */
export function redactionFault(rule: string): string | undefined {
  try {
    RE2JS.compile(rule);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
