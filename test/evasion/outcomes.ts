/** What came of a technique, as `evade run` prints it. */
export interface Outcome {
  readonly technique: string;
  readonly result: 'blocked' | 'escaped' | 'n/a';
  readonly reason: string;
}

export interface Results {
  readonly kernel: string;
  readonly surroundings: Record<string, readonly Outcome[]>;
}

/** Techniques that are known to get around a policy, and why they may. */
export interface Limit {
  readonly techniques: readonly string[];
  readonly reason: string;
}

const isResult = (word: string): word is Outcome['result'] => ['blocked', 'escaped', 'n/a'].includes(word);

export function readOutcomes(text: string): readonly Outcome[] {
  return text.split('\n').map((line) => {
    const [technique = '', result = '', reason = ''] = line.split('\t');
    if (!isResult(result)) throw new Error(`this is no outcome of a technique: ${line}`);
    return { technique, result, reason };
  });
}

/** The items below "Stated limits" of SECURITY.md: names of techniques in backquotes, a colon, the reason. */
export function readLimits(markdown: string): readonly Limit[] {
  const [, rest = ''] = markdown.split(/^## Stated limits$/m);
  const [section = ''] = rest.split(/^## /m);
  return section
    .split(/^- /m)
    .slice(1)
    .map((item) => {
      const text = item.replaceAll(/\s+/g, ' ').trim();
      const match = /^((?:`[^`]+`(?:, )?)+): (.+)$/.exec(text);
      if (!match) throw new Error(`this stated limit does not name its techniques: ${text}`);
      const [, names = '', reason = ''] = match;
      return { techniques: [...names.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name), reason };
    });
}

/** `*` stands for any of the groups, or the rest of a name. */
function names(pattern: string, technique: string): boolean {
  const escaped = pattern.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*');
  return new RegExp(`^${escaped}$`).test(technique);
}

export const isStated = (technique: string, limits: readonly Limit[]): boolean =>
  limits.some(({ techniques }) => techniques.some((pattern) => names(pattern, technique)));

export const unstated = (outcomes: readonly Outcome[], limits: readonly Limit[]): readonly string[] =>
  outcomes
    .filter(({ technique, result }) => result === 'escaped' && !isStated(technique, limits))
    .map(({ technique }) => technique);
