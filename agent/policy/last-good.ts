import { compile } from './compile.js';
import type { Diagnostic, Policy, Postures } from './model.js';

/** What a text that has been read says, good or bad. */
export interface Reading {
  readonly policies: readonly Policy[];
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * What to enforce of a text that has changed: its policies, and of those that are bad, because they cannot be read
 * or cannot be compiled even by themselves, the last good version. The diagnostics are all of the new text's.
 * @param last what was enforced of the text before; a policy that is among these is taken as it is
 */
export function keepLastGood(read: Reading, last: readonly Policy[], postures: Postures): Reading {
  const diagnostics = [...read.diagnostics];
  // which of them a fault belongs to is not known, so none that was good before is missed
  const fresh = new Set(read.policies.map(identity));
  const faulty = diagnostics.some(({ severity }) => severity === 'error');
  const kept = faulty ? last.filter((policy) => !fresh.has(identity(policy))) : [];
  const policies = [...kept, ...read.policies].flatMap((policy) => {
    if (last.includes(policy)) return [policy];
    const compiled = compile([policy], postures);
    if (compiled.ok) return [policy];
    diagnostics.push(...compiled.diagnostics);
    return last.filter((before) => identity(before) === identity(policy));
  });
  return { policies, diagnostics };
}

const identity = ({ kind, namespace, name }: Policy) => `${kind}/${namespace}/${name}`;
