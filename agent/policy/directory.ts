import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { policyFiles, readPolicyBytes, unreadable } from './files.js';
import { keepLastGood } from './last-good.js';
import type { Diagnostic, Policy, Postures } from './model.js';
import { readPolicies } from './read.js';
import { decodePolicyFile } from './source.js';

interface FileState {
  readonly digest: string;
  /** The last good version, of each policy that was ever valid in this file and is still meant by it. */
  readonly policies: readonly Policy[];
}

export interface DirectoryRead {
  /** What to enforce. An unchanged file gives the same objects again. */
  readonly policies: readonly Policy[];
  /** Of files that changed since the last time. */
  readonly diagnostics: readonly Diagnostic[];
  readonly changed: boolean;
}

/**
 * The policies of a directory over time. A file that is bad keeps its last good version in force, a directory that
 * vanishes keeps them all; only a file that is gone while its directory stands takes its policies away.
 */
export class PolicyDirectory {
  readonly path: string;
  readonly #postures: Postures;
  #files = new Map<string, FileState>();
  #missing = false;

  constructor(path: string, postures: Postures) {
    this.path = path;
    this.#postures = postures;
  }

  read(): DirectoryRead {
    const diagnostics: Diagnostic[] = [];
    let paths: string[];
    try {
      paths = policyFiles(this.path);
    } catch (error) {
      if (!this.#missing)
        diagnostics.push(fault(this.path, `${unreadable(error)}; its policies stay in force`));
      this.#missing = true;
      return { policies: this.#all(), diagnostics, changed: false };
    }
    this.#missing = false;
    let changed = paths.length !== this.#files.size;
    const files = new Map<string, FileState>();
    for (const path of paths) {
      const before = this.#files.get(path);
      const state = this.#readFile(path, before, diagnostics);
      // it went away since it was listed, or the whole directory did: look again
      if (state === undefined) return this.read();
      changed ||= state !== before;
      files.set(path, state);
    }
    this.#files = files;
    return { policies: this.#all(), diagnostics, changed };
  }

  #all(): Policy[] {
    return [...this.#files.values()].flatMap((f) => f.policies);
  }

  /** Undefined if there is no such file any more. */
  #readFile(path: string, before: FileState | undefined, diagnostics: Diagnostic[]): FileState | undefined {
    const last = before?.policies ?? [];
    let bytes: Uint8Array;
    try {
      bytes = readPolicyBytes(path);
    } catch (error) {
      if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
      if (before?.digest === '!') return before;
      diagnostics.push(fault(path, unreadable(error)), outcome(path, last));
      return { digest: '!', policies: last };
    }
    const digest = createHash('sha256').update(bytes).digest('hex');
    if (before?.digest === digest) return before;
    const decoded = decodePolicyFile(bytes, path);
    if ('fault' in decoded) {
      diagnostics.push(decoded.fault, outcome(path, last));
      return { digest, policies: last };
    }
    const settled = keepLastGood(readPolicies(decoded.text, path), last, this.#postures);
    diagnostics.push(...settled.diagnostics);
    const kept = settled.policies.filter((policy) => last.includes(policy));
    if (settled.diagnostics.some(({ severity }) => severity === 'error'))
      diagnostics.push(outcome(path, kept));
    return { digest, policies: settled.policies };
  }
}

/** What holds instead of what is broken in a file. */
function outcome(file: string, kept: readonly Policy[]): Diagnostic {
  const names = kept.map(({ kind, namespace, name }) => [kind, namespace, name].filter(Boolean).join('/'));
  const message =
    names.length > 0
      ? `the last good version of ${names.join(', ')} stays in force`
      : 'nothing of what is broken here is in force';
  return { at: { file, line: 1, column: 1 }, severity: 'warning', message };
}

const fault = (file: string, message: string): Diagnostic => ({
  at: { file, line: 1, column: 1 },
  severity: 'error',
  message,
});
