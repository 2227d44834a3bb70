import type { Fields } from './fields.js';
import type { Action, PolicyKind } from './model.js';
import { COMMON } from './schema/rules.js';
import { ACTIONS, KUBEARMOR_ACTIONS } from './schema/words.js';
import { KINDS, KUBEARMOR_API } from './vocabulary.js';

export interface Common {
  readonly action: Action;
  readonly severity: number;
  readonly tags: readonly string[];
  readonly message: string;
}

/** What a rule says where nobody says anything. */
export const DEFAULTS: Common = { action: 'Block', severity: 1, tags: [], message: '' };

/** What stands in `fields`, and for the rest what `outer` says: the fields of `COMMON`. */
export function inherit(fields: Fields, outer: Common, kind: PolicyKind): Common {
  const actions = isKubeArmor(kind) ? KUBEARMOR_ACTIONS : ACTIONS;
  return {
    action: fields.choice('action', actions) ?? outer.action,
    severity: fields.integer('severity', COMMON.severity.minimum, COMMON.severity.maximum) ?? outer.severity,
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
