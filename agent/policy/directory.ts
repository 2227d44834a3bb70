import { createHash } from 'node:crypto';
import { compile } from './compile.js';
import { policyFiles, readPolicyBytes, unreadable } from './files.js';
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
  readonly #path: string;
  readonly #postures: Postures;
  #files = new Map<string, FileState>();
  #missing = false;

  constructor(path: string, postures: Postures) {
    this.#path = path;
    this.#postures = postures;
  }

  read(): DirectoryRead {
    const diagnostics: Diagnostic[] = [];
    let paths: string[];
    try {
      paths = policyFiles(this.#path);
    } catch (error) {
      if (!this.#missing)
        diagnostics.push(fault(this.#path, `${unreadable(error)}; its policies stay in force`));
      this.#missing = true;
      return { policies: this.#all(), diagnostics, changed: false };
    }
    this.#missing = false;
    let changed = paths.length !== this.#files.size;
    const files = new Map<string, FileState>();
    for (const path of paths) {
      const before = this.#files.get(path);
      const state = this.#readFile(path, before, diagnostics);
      changed ||= state !== before;
      files.set(path, state);
    }
    this.#files = files;
    return { policies: this.#all(), diagnostics, changed };
  }

  #all(): Policy[] {
    return [...this.#files.values()].flatMap((f) => f.policies);
  }

  #readFile(path: string, before: FileState | undefined, diagnostics: Diagnostic[]): FileState {
    let bytes: Uint8Array;
    try {
      bytes = readPolicyBytes(path);
    } catch (error) {
      if (!before?.digest.startsWith('!')) diagnostics.push(fault(path, unreadable(error)));
      return before?.digest === '!' ? before : { digest: '!', policies: before?.policies ?? [] };
    }
    const digest = createHash('sha256').update(bytes).digest('hex');
    if (before?.digest === digest) return before;
    const decoded = decodePolicyFile(bytes, path);
    if ('fault' in decoded) {
      diagnostics.push(decoded.fault);
      return { digest, policies: before?.policies ?? [] };
    }
    const read = readPolicies(decoded.text, path);
    diagnostics.push(...read.diagnostics);
    if (read.diagnostics.some((d) => d.severity === 'error')) {
      return { digest, policies: this.#mend(before?.policies ?? [], read.policies, diagnostics) };
    }
    return { digest, policies: this.#fit(read.policies, before?.policies ?? [], diagnostics) };
  }

  /** The good policies of a file that also has bad ones, over the last good version of the bad ones. */
  #mend(last: readonly Policy[], good: readonly Policy[], diagnostics: Diagnostic[]): Policy[] {
    const fresh = new Set(good.map(identity));
    return this.#fit([...last.filter((p) => !fresh.has(identity(p))), ...good], last, diagnostics);
  }

  /** Replaces each policy that cannot be compiled even by itself with its last good version. */
  #fit(policies: readonly Policy[], last: readonly Policy[], diagnostics: Diagnostic[]): Policy[] {
    return policies.flatMap((policy) => {
      if (last.includes(policy)) return [policy];
      const compiled = compile([policy], this.#postures);
      if (compiled.ok) return [policy];
      diagnostics.push(...compiled.diagnostics);
      return last.filter((p) => identity(p) === identity(policy));
    });
  }
}

const identity = (p: Policy) => `${p.kind}/${p.namespace}/${p.name}`;

const fault = (file: string, message: string): Diagnostic => ({
  at: { file, line: 1, column: 1 },
  severity: 'error',
  message,
});
