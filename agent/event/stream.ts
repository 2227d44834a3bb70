import { randomBytes } from 'node:crypto';
import { enums, maps } from '../kernel/abi.js';
import type { Enforcer } from '../kernel/enforcer.js';
import type { Kernel } from '../kernel/kernel.js';
import { EventReader, type RawEvent } from './decode.js';
import { alertRecord, type BelayRecord, execRecord, type RecordContext, unknownPodRecord } from './record.js';

const FOLD_WINDOW_NS = 1_000_000_000n;
const SWEEP_MS = 500;
/** As many first reports are remembered as there can be folds under way, twice over. */
const REMEMBERED = 2 * maps.folds.entries;
const RING_NAMES = ['denials', 'matches', 'telemetry'] as const;

/** Where everything that is told of happens. */
export interface Origin {
  readonly node: string;
  /** The cluster's name. */
  readonly cluster: string;
}

/**
 * Records from the kernel, complete: each alert attributed, repeats as one with their number, and for what found no
 * room in a ring, or failed inside the programs, a record that says so.
 */
export class EventStream {
  readonly #kernel: Kernel;
  readonly #enforcer: Enforcer;
  readonly #emit: (record: BelayRecord) => void;
  readonly #onCgroup: (path: string) => void;
  readonly #origin: Origin;
  /** First report of what may be repeating, by fold key; oldest first. */
  readonly #firsts = new Map<bigint, EventReader>();
  readonly #reader = new EventReader();
  readonly #lost = new Map<number, readonly bigint[]>();
  #failures: ReadonlyMap<string, number>;
  /** Goes on from one agent to the next, since none makes a million records a second for long. */
  #sequence = BigInt(Date.now()) * 1000n;
  /** Of this agent's run, in the ids of its events. */
  readonly #instance = randomBytes(6).toString('hex');
  #timer: NodeJS.Timeout;

  /**
   * @param onCgroup a pod's or a container's cgroup was made; its path below the hierarchy's root. Before the records of
   * what happened there.
   */
  constructor(
    kernel: Kernel,
    enforcer: Enforcer,
    origin: Origin,
    emit: (record: BelayRecord) => void,
    onCgroup: (path: string) => void = () => {},
  ) {
    this.#kernel = kernel;
    this.#enforcer = enforcer;
    this.#origin = origin;
    this.#emit = emit;
    this.#onCgroup = onCgroup;
    this.#failures = kernel.failures();
    kernel.read((batch) => this.#take(batch));
    this.#timer = setInterval(() => this.#sweep(FOLD_WINDOW_NS), SWEEP_MS);
  }

  /** Reports what there is and ends. */
  close(): void {
    clearInterval(this.#timer);
    this.#kernel.stopReading();
    this.#sweep(0n);
  }

  #take(batch: Buffer): void {
    const raw = this.#reader;
    raw.open(batch);
    while (raw.next()) {
      if (raw.operation === enums.operation.OPERATION_CGROUP) {
        this.#cgroup(raw);
        continue;
      }
      if (raw.ring === enums.ring.RING_TELEMETRY) {
        this.#emit(execRecord(raw, this.#enforcer.attribute(raw.workload, 0, 0), this.#context()));
        continue;
      }
      this.#firsts.delete(raw.foldKey);
      this.#firsts.set(raw.foldKey, raw.kept());
      this.#alert(raw);
    }
    for (const key of this.#firsts.keys()) {
      if (this.#firsts.size <= REMEMBERED) break;
      this.#firsts.delete(key);
    }
  }

  #cgroup(raw: RawEvent): void {
    const path = raw.object.toString();
    const { workload } = this.#enforcer.attribute(raw.workload, 0, 0);
    if (workload?.place?.kind === 'unknown') this.#emit(unknownPodRecord(raw, path, this.#context()));
    this.#onCgroup(path);
  }

  #alert(raw: RawEvent): void {
    const attribution = this.#enforcer.attribute(raw.workload, raw.generation, raw.rule);
    this.#emit(alertRecord(raw, attribution, this.#context()));
  }

  #context(): RecordContext {
    return { ...this.#origin, bootTime: this.#kernel.bootTime, ...this.#next() };
  }

  #next(): { id: string; sequence: bigint } {
    const sequence = ++this.#sequence;
    return { id: `${this.#instance}-${sequence.toString(36)}`, sequence };
  }

  #sweep(window: bigint): void {
    const bootTime = this.#kernel.bootTime;
    const unix = BigInt(Date.now()) * 1_000_000n;
    const now = unix - bootTime;
    const base = () => {
      const { id, sequence } = this.#next();
      return {
        schema: 'belay.v1' as const,
        time: unix.toString(),
        id,
        sequence: sequence.toString(),
        node: this.#origin.node,
      };
    };
    this.#kernel.takeFolds(now, window, (key, count, workload) => {
      const first = this.#firsts.get(key);
      if (first) {
        this.#alert(first.kept({ time: now, count }));
        return;
      }
      // its first report was lost, or went to an agent before this one
      this.#emit({
        ...base(),
        type: 'gap',
        ...this.#whose(workload),
        ring: 'folded',
        lost: count.toString(),
      });
    });
    for (const id of this.#enforcer.workloads.keys()) {
      const { lost } = this.#kernel.counters(id);
      const before = this.#lost.get(id);
      this.#lost.set(id, lost);
      lost.forEach((n, ring) => {
        const more = n - (before?.[ring] ?? 0n);
        if (more > 0n) {
          this.#emit({
            ...base(),
            type: 'gap',
            ...this.#whose(id),
            ring: RING_NAMES[ring],
            lost: more.toString(),
          });
        }
      });
    }
    const failures = this.#kernel.failures();
    for (const [failure, count] of failures) {
      const more = count - (this.#failures.get(failure) ?? 0);
      if (more > 0) this.#emit({ ...base(), type: 'failure', failure, count: more.toString() });
    }
    this.#failures = failures;
  }

  #whose(workload: number): { namespace: string; pod: string; container: string } {
    const w = this.#enforcer.workloads.get(workload);
    return { namespace: w?.namespace ?? '', pod: w?.name ?? '', container: w?.container ?? '' };
  }
}
