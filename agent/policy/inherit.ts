import type { Fields } from './fields.js';
import type { Action, PolicyKind } from './model.js';
import { KINDS, KUBEARMOR_API } from './vocabulary.js';

/** The fields that may stand on a rule, its section and the spec; the closest wins, field by field. */
export const COMMON = ['action', 'severity', 'tags', 'message'] as const;

export interface Common {
  readonly action: Action;
  readonly severity: number;
  readonly tags: readonly string[];
  readonly message: string;
}

/** What a rule says where nobody says anything. */
export const DEFAULTS: Common = { action: 'Block', severity: 1, tags: [], message: '' };

const KUBEARMOR_ACTIONS: readonly Action[] = ['Allow', 'Audit', 'Block'];
const BELAY_ACTIONS: readonly Action[] = [...KUBEARMOR_ACTIONS, 'Kill', 'KillContainer'];

/** What stands in `fields`, and for the rest what `outer` says. */
export function inherit(fields: Fields, outer: Common, kind: PolicyKind): Common {
  const actions = isKubeArmor(kind) ? KUBEARMOR_ACTIONS : BELAY_ACTIONS;
  return {
    action: fields.choice('action', actions) ?? outer.action,
    severity: fields.integer('severity', 1, 10) ?? outer.severity,
    tags: fields.texts('tags') ?? outer.tags,
    message: fields.text('message') ?? outer.message,
  };
}

export function isKubeArmor(kind: PolicyKind): boolean {
  return KINDS[kind].api === KUBEARMOR_API;
}

/** Warns about a field that means something to Belay and nothing to KubeArmor, in a policy of KubeArmor's kinds. */
export function warnBelayOnly(fields: Fields, kind: PolicyKind, names: readonly string[]): void {
  if (!isKubeArmor(kind)) return;
  for (const name of names) {
    const entry = fields.entry(name);
    if (entry === undefined) continue;
    fields.source.warn(
      entry.key,
      `"${name}" in ${fields.what} is Belay's own: it holds here, but KubeArmor knows no such field; use Belay's kind to be clear`,
    );
  }
}
