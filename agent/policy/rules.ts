import type { Action, Policy, Rule } from './model.js';

/** What an event with a rule's id needs to know of it. */
export interface RuleInfo {
  /** The policy's name; empty for the built-in rules. */
  readonly policy: string;
  readonly namespace: string;
  /** As in the policy; `DefaultPosture` and `unnamed` are built in. */
  readonly rule: string;
  readonly class: Rule['class'] | 'none';
  readonly action: Action;
  readonly severity: number;
  readonly tags: readonly string[];
  readonly message: string;
  /** The policy is a dry run: what this rule denies is reported and goes ahead. */
  readonly dryRun: boolean;
}

/** A rule with its number in the set; the numbers follow the policies' canonical order. */
export interface NumberedRule {
  readonly id: number;
  readonly rule: Rule;
  readonly dryRun: boolean;
}

/** Ids that every set has. 0 is none's. */
export const BUILT_IN = {
  processPosture: 1,
  filePosture: 2,
  networkPosture: 3,
  capabilitiesPosture: 4,
  unnamed: 5,
} as const;

const builtIn = (rule: string, of: RuleInfo['class']): RuleInfo => ({
  policy: '',
  namespace: '',
  rule,
  class: of,
  action: 'Block',
  severity: 1,
  tags: [],
  message: '',
  dryRun: false,
});

/**
 * Numbers the rules of a set. The order depends on what the policies say alone, not on how they arrived: by scope,
 * namespace, name and kind, and within a policy as written.
 */
export function numberRules(policies: readonly Policy[]): {
  readonly rules: readonly NumberedRule[];
  readonly infos: readonly RuleInfo[];
} {
  const infos: RuleInfo[] = [
    builtIn('', 'none'),
    builtIn('DefaultPosture', 'process'),
    builtIn('DefaultPosture', 'file'),
    builtIn('DefaultPosture', 'network'),
    builtIn('DefaultPosture', 'capabilities'),
    builtIn('unnamed', 'process'),
  ];
  const rules: NumberedRule[] = [];
  for (const policy of inCanonicalOrder(policies)) {
    const dryRun = policy.mode === 'Audit';
    for (const rule of policy.rules) {
      rules.push({ id: infos.length, rule, dryRun });
      infos.push({
        policy: policy.name,
        namespace: policy.namespace,
        rule: rule.id,
        class: rule.class,
        action: rule.action,
        severity: rule.severity,
        tags: rule.tags,
        message: rule.message,
        dryRun,
      });
    }
  }
  return { rules, infos };
}

function inCanonicalOrder(policies: readonly Policy[]): Policy[] {
  const keyed = policies.map((policy) => ({
    policy,
    key: [policy.scope, policy.namespace, policy.name, policy.kind, policy.apiVersion, policy.mode].join(
      '\0',
    ),
  }));
  const content = new Map<Policy, string>();
  const text = (policy: Policy) => {
    let json = content.get(policy);
    if (json === undefined) {
      json = JSON.stringify(policy.rules, (key, value) => (key === 'at' ? undefined : value));
      content.set(policy, json);
    }
    return json;
  };
  keyed.sort((a, b) => order(a.key, b.key) || order(text(a.policy), text(b.policy)));
  return keyed.map(({ policy }) => policy);
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
