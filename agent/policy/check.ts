import { lintPolicies } from './lint.js';
import type { Diagnostic, Policy } from './model.js';
import { byPosition, readPolicies } from './read.js';
import { decodePolicyFile } from './source.js';

export interface CheckResult {
  readonly policies: readonly Policy[];
  /** Sorted by file, line and column. */
  readonly diagnostics: readonly Diagnostic[];
  readonly errors: number;
  readonly warnings: number;
}

/** Reads files of policies as bytes, one by one, and at last looks at all of them together. */
export class Checker {
  readonly #policies: Policy[] = [];
  readonly #diagnostics: Diagnostic[] = [];

  add(bytes: Uint8Array, file: string): void {
    const decoded = decodePolicyFile(bytes, file);
    if ('fault' in decoded) {
      this.#diagnostics.push(decoded.fault);
      return;
    }
    const { policies, diagnostics } = readPolicies(decoded.text, file);
    this.#policies.push(...policies);
    this.#diagnostics.push(...diagnostics);
  }

  /** A fault of the file as such: it is missing, or may not be read. */
  fail(file: string, message: string): void {
    this.#diagnostics.push({ at: { file, line: 1, column: 1 }, severity: 'error', message });
  }

  finish(): CheckResult {
    const diagnostics = [...this.#diagnostics, ...lintPolicies(this.#policies)].sort(byPosition);
    const errors = diagnostics.filter(({ severity }) => severity === 'error').length;
    return { policies: this.#policies, diagnostics, errors, warnings: diagnostics.length - errors };
  }
}
