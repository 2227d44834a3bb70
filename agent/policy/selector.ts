import type { LabelRequirement, Policy } from './model.js';
import { HOST_PATTERN_LABEL } from './schema/policies.js';

/** The facts about a workload that selectors look at. For a host: its name, its node's labels, `host: true`. */
export interface SelectableWorkload {
  readonly namespace: string;
  readonly labels: ReadonlyMap<string, string>;
  /** The container's name; empty for a host. */
  readonly container: string;
  /** The pod's or the host's name. */
  readonly name: string;
  readonly host?: boolean;
}

/** Whether the policy reaches the workload: all parts of its selector must hold. */
export function selects(policy: Policy, workload: SelectableWorkload): boolean {
  const { selector } = policy;
  if ((policy.scope === 'host') !== (workload.host === true)) return false;
  if (policy.scope === 'host') return selectsHost(selector.labels, workload);
  if (policy.scope === 'namespace' && policy.namespace !== workload.namespace) return false;
  for (const { operator, values } of selector.namespaces) {
    if (values.includes(workload.namespace) !== (operator === 'In')) return false;
  }
  for (const [key, value] of selector.labels) {
    if (workload.labels.get(key) !== value) return false;
  }
  if (!selector.expressions.every((requirement) => holds(requirement, workload.labels))) return false;
  const { containers } = selector;
  return containers.length === 0 || containers.some((glob) => nameMatches(glob, workload.container));
}

/** The key `label` is KubeArmor's: its values are whole labels, `k=v`, of which a workload has one or none. */
function holds(requirement: LabelRequirement, labels: ReadonlyMap<string, string>): boolean {
  const { key } = requirement;
  if (!('values' in requirement)) return labels.has(key) === (requirement.operator === 'Exists');
  const { operator, values } = requirement;
  const has = values.some((value) => (key === 'label' ? hasPair(labels, value) : labels.get(key) === value));
  return has === (operator === 'In');
}

function hasPair(labels: ReadonlyMap<string, string>, pair: string): boolean {
  const equals = pair.indexOf('=');
  return equals > 0 && labels.get(pair.slice(0, equals)) === pair.slice(equals + 1);
}

const HOST_NAME_LABELS = ['kubernetes.io/hostname', 'kubearmor.io/hostname'];

/** `*` stands for any value. A host that has no Kubernetes labels still has its name. */
function selectsHost(labels: ReadonlyMap<string, string>, host: SelectableWorkload): boolean {
  for (const [key, value] of labels) {
    if (key === HOST_PATTERN_LABEL) {
      if (!matchesExpression(value, host.name)) return false;
      continue;
    }
    const own = host.labels.get(key) ?? (HOST_NAME_LABELS.includes(key) ? host.name : undefined);
    if (own === undefined || (value !== '*' && value !== own)) return false;
  }
  return true;
}

/** Reading has made sure that it is one; a policy built otherwise selects nothing by a broken one. */
function matchesExpression(expression: string, name: string): boolean {
  try {
    return new RegExp(expression).test(name);
  } catch {
    return false;
  }
}

/** A glob on a whole name: `*` any run of characters, `?` one. Linear in the name for each star. */
export function nameMatches(glob: string, name: string): boolean {
  let g = 0;
  let n = 0;
  let star = -1;
  let resume = 0;
  while (n < name.length) {
    if (glob[g] === '*') {
      star = g++;
      resume = n;
    } else if (g < glob.length && (glob[g] === '?' || glob[g] === name[n])) {
      g++;
      n++;
    } else if (star >= 0) {
      g = star + 1;
      n = ++resume;
    } else return false;
  }
  while (glob[g] === '*') g++;
  return g === glob.length;
}
