import { isNameRule } from './ballots.js';
import { TooManyCells } from './cells.js';
import type { Bounds, Dfa } from './dfa.js';
import { mayExplode } from './glob.js';
import { enums, WAITING_LIMIT } from './layout.js';
import type { Diagnostic, Rule } from './model.js';
import type { NameMatchers } from './names.js';
import { AutomatonTooLarge } from './nfa.js';
import type { NumberedRule } from './rules.js';

/** The policies are right but cannot become tables; says which rule to change, and how. */
export class Unfit extends Error {
  readonly diagnostics: readonly Diagnostic[];

  constructor(diagnostics: readonly Diagnostic[]) {
    super('the policies cannot be compiled');
    this.diagnostics = diagnostics;
  }
}

export const fault = (rule: Rule, message: string): Diagnostic => ({
  at: rule.at,
  severity: 'error',
  message,
});

export function tooManyLists(rules: readonly NumberedRule[], id: number): Diagnostic {
  const { rule } = rules.find((each) => each.id === id) ?? rules[0];
  return fault(
    rule,
    `more than ${WAITING_LIMIT} lists of allowedArgs bear on one program; ` +
      'write one rule with the arguments that all of them allow',
  );
}

export function tooManySubjects(rules: readonly NumberedRule[], count: number): Unfit {
  const sourced = rules.find(({ rule }) => rule.class !== 'preset' && rule.sources.length > 0);
  const { rule } = sourced ?? rules[0];
  const limit = enums.column.COLUMN_LIMIT;
  return new Unfit([
    fault(
      rule,
      `the rules' sources tell ${count} kinds of program apart, and ${limit} is the limit; use fewer overlapping sources`,
    ),
  ]);
}

/** A pattern that explodes by itself is told from one that only sits in a large set. @throws Unfit */
export function checkPatterns(names: readonly NameMatchers[], bounds: Bounds): void {
  const faults: Diagnostic[] = [];
  for (const matchers of names) {
    matchers.all.forEach(({ glob, rule }, id) => {
      if (glob === undefined || !mayExplode(glob)) return;
      try {
        matchers.alone(id, bounds);
      } catch (error) {
        if (!(error instanceof AutomatonTooLarge)) throw error;
        faults.push(
          fault(
            rule,
            `the pattern ${glob.pattern} needs more than ${bounds.states} automaton states: ` +
              'a wildcard that matches long runs is followed by too many that match single characters; ' +
              'shorten what follows its first "*", or write several simpler patterns',
          ),
        );
      }
    });
  }
  if (faults.length > 0) throw new Unfit(faults);
}

/** Builds an automaton for these matchers. @throws Unfit */
export function bounded(build: () => Dfa, all: readonly { readonly rule: Rule }[]): Dfa {
  try {
    return build();
  } catch (error) {
    if (!(error instanceof AutomatonTooLarge)) throw error;
    const { rule } = all[error.culprits[0] ?? 0];
    throw new Unfit([
      fault(
        rule,
        `${describe(rule)} and the rules beside it need more automaton states than a policy set may have; ` +
          'write it with a longer literal beginning, or fewer wildcards',
      ),
    ]);
  }
}

/** Adds to the tables. @throws Unfit */
export function fitting<T>(rules: readonly NumberedRule[], add: () => T): T {
  try {
    return add();
  } catch (error) {
    if (!(error instanceof TooManyCells) && !(error instanceof AutomatonTooLarge)) throw error;
    const { rule } = rules[rules.length - 1];
    throw new Unfit([
      fault(
        rule,
        'the policies that reach this workload need larger tables than a set may have; use fewer rules',
      ),
    ]);
  }
}

function describe(rule: Rule): string {
  if (!isNameRule(rule)) return `the rule ${rule.id}`;
  return rule.match.kind === 'pattern' ? `the pattern ${rule.match.pattern}` : `the rule ${rule.id}`;
}
