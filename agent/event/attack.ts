import { TACTICS, TECHNIQUES } from './attack-names.js';

export { ATTACK_VERSION } from './attack-names.js';

export interface AttackName {
  readonly id: string;
  /** Absent for an id that is not in the table. */
  readonly name?: string;
}

export interface Attack {
  readonly tactics: readonly AttackName[];
  readonly techniques: readonly AttackName[];
  readonly subtechniques: readonly AttackName[];
}

const ID = /(?<![A-Za-z0-9])T(A\d{4}|\d{4}(\.\d{3})?)(?![A-Za-z0-9])/g;

/** What a rule's tags name of ATT&CK, each once, in the tags' order; a sub-technique brings its technique along. */
export function attackOf(tags: readonly string[]): Attack {
  const ids = new Set<string>();
  for (const tag of tags) {
    for (const [id] of tag.toUpperCase().replaceAll('_', ' ').matchAll(ID)) {
      if (id.includes('.')) ids.add(id.slice(0, 5));
      ids.add(id);
    }
    const word = tag
      .toLowerCase()
      .replace(/^mitre_/, '')
      .replaceAll(/[_-]/g, ' ');
    for (const [id, name] of Object.entries(TACTICS)) if (name.toLowerCase() === word) ids.add(id);
  }
  const all = [...ids].map((id) => ({ id, name: TACTICS[id] ?? TECHNIQUES[id] }));
  return {
    tactics: all.filter(({ id }) => id.startsWith('TA')),
    techniques: all.filter(({ id }) => /^T\d{4}$/.test(id)),
    subtechniques: all.filter(({ id }) => id.includes('.')),
  };
}

/** A tag as people read it: what it names of ATT&CK by id and name; one that names nothing known as it is. */
export function tagText(tag: string): string {
  const { tactics, techniques, subtechniques } = attackOf([tag]);
  const wider = new Set(subtechniques.map(({ id }) => id.slice(0, 5)));
  const known = [...tactics, ...techniques, ...subtechniques].filter(
    ({ id, name }) => name && !wider.has(id),
  );
  return known.map(({ id, name }) => `${id} ${name}`).join(', ') || tag;
}
