import type { Logger } from 'pino';
import type { Enforcer } from '../kernel/enforcer.js';
import type { Kernel } from '../kernel/kernel.js';
import type { Diagnostic, Policy } from '../policy/model.js';
import type { Workload } from '../workload/model.js';

export interface WantedOptions {
  readonly enforcer: Enforcer;
  readonly kernel: Kernel;
  readonly log: Logger;
  /** Who tells of policies and of workloads; nothing changes before each has told once. */
  readonly policySources: readonly string[];
  readonly workloadSources: readonly string[];
  /** Everything that was told has been put in force for the first time. */
  readonly onReady: () => void;
  /** What was told last has been put in force, as far as it fits. */
  readonly onApplied: (seconds: number) => void;
}

/**
 * What is wanted, from all who tell: policies from a directory and from the API server, workloads from a file and from
 * the node. Until all have told, what an agent before this one left in force stays as it is.
 */
export class Wanted {
  readonly #options: WantedOptions;
  readonly #policies: Map<string, readonly Policy[] | undefined>;
  readonly #workloads: Map<string, readonly Workload[] | undefined>;
  #ready = false;

  constructor(options: WantedOptions) {
    this.#options = options;
    this.#policies = new Map(options.policySources.map((source) => [source, undefined]));
    this.#workloads = new Map(options.workloadSources.map((source) => [source, undefined]));
  }

  /** How many policies are wanted. */
  get policies(): number {
    return all(this.#policies).length;
  }

  get everyPolicy(): readonly Policy[] {
    return all(this.#policies);
  }

  setPolicies(source: string, policies: readonly Policy[]): void {
    const before = this.policies;
    this.#policies.set(source, policies);
    if (this.#ready) {
      const since = performance.now();
      this.#tell(this.#options.enforcer.setPolicies(all(this.#policies)));
      this.#say('policies in force', since);
      if (before > 0 && this.policies === 0)
        this.#options.log.warn('there is no policy any more: nothing is enforced');
    } else this.#begin();
  }

  setWorkloads(source: string, workloads: readonly Workload[]): void {
    this.#workloads.set(source, workloads);
    if (this.#ready) {
      const since = performance.now();
      this.#tell(this.#options.enforcer.setWorkloads(all(this.#workloads)));
      this.#say('workloads in force', since);
    } else this.#begin();
  }

  #begin(): void {
    if ([...this.#policies.values(), ...this.#workloads.values()].includes(undefined)) return;
    const { enforcer, onReady } = this.#options;
    const since = performance.now();
    this.#ready = true;
    enforcer.setPolicies(all(this.#policies));
    this.#tell(enforcer.setWorkloads(all(this.#workloads)));
    this.#say('workloads in force', since);
    onReady();
  }

  #say(what: string, since: number): void {
    const { enforcer, kernel, log, onApplied } = this.#options;
    onApplied((performance.now() - since) / 1000);
    const policies = all(this.#policies).length;
    const workloads = all(this.#workloads).length;
    log.info({ policies, workloads, sets: enforcer.sets, tableBytes: kernel.tableBytes }, what);
  }

  #tell(diagnostics: readonly Diagnostic[]): void {
    tell(this.#options.log, diagnostics);
  }
}

function all<T>(sources: ReadonlyMap<string, readonly T[] | undefined>): readonly T[] {
  return [...sources.values()].flatMap((each) => each ?? []);
}

export function tell(log: Logger, diagnostics: readonly Diagnostic[]): void {
  for (const { at, severity, message } of diagnostics) {
    log[severity === 'error' ? 'error' : 'warn'](
      `${at.file}:${at.line}:${at.column}: ${severity}: ${message}`,
    );
  }
}
