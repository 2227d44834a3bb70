import type { Matcher, Policy, Rule } from './model.js';

/** Other forms of a policy. Each is made once, since policies are compared by identity. */
const dryRuns = new WeakMap<Policy, Policy>();
const strict = new WeakMap<Policy, Policy>();

/** As a dry run. */
export function audited(policy: Policy): Policy {
  return once(dryRuns, policy, () => ({ ...policy, mode: 'Audit' }));
}

/** No program is called this: a component of a name has at most 255 bytes. */
const NEVER: Matcher = { kind: 'path', path: `/${'-'.repeat(256)}` };

/**
 * What holds while it is not known whether the policy reaches a container: it denies all that it would, and allows nothing.
 * Its Allow rules match no operation and still make their class an allow-list.
 */
export function strictly(policy: Policy): Policy {
  return once(strict, policy, () => ({
    ...policy,
    rules: policy.rules.map((rule): Rule => (rule.action === 'Allow' ? { ...rule, sources: [NEVER] } : rule)),
  }));
}

function once(made: WeakMap<Policy, Policy>, policy: Policy, make: () => Policy): Policy {
  let form = made.get(policy);
  if (form === undefined) {
    form = make();
    made.set(policy, form);
  }
  return form;
}
