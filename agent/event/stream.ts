import { randomBytes } from 'node:crypto';
import { enums, maps } from '../kernel/abi.js';
import type { Enforcer } from '../kernel/enforcer.js';
import type { Kernel } from '../kernel/kernel.js';
import { EventReader, type RawEvent } from './decode.js';
import {
  alertRecord,
  type BelayRecord,
  execRecord,
  type GapRecord,
  type RecordContext,
  unknownPodRecord,
} from './record.js';

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
  /** Goes on from one agent to the next, since none makes a million records a second for long. */
  #sequence = BigInt(Date.now()) * 1000n;
  /** Of this agent's run, in the ids of its events. */
  readonly #instance = randomBytes(6).toString('hex');
  #timer: NodeJS.Timeout | undefined;

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
  }

  /**
   * To be called when the enforcer knows the workloads: what was kept in the rings while no agent was there is told
   * with their names.
   * @returns true once programs of an earlier schema have been taken off; false = there were none
   */
  async start(): Promise<boolean> {
    this.#kernel.read((batch) => this.#take(batch));
    this.#timer = setInterval(() => this.#sweep(FOLD_WINDOW_NS), SWEEP_MS);
    return this.#kernel.retirePrevious((batch) => this.#take(batch), this.#repeats(0n));
  }

  /** Reports what there is and ends. */
  close(): void {
    if (this.#timer === undefined) return;
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
    // the first reports of what has folded since, where this comes before the loop has looked at the rings
    this.#kernel.drain();
    this.#kernel.takeFolds(now, window, this.#repeats(now));
    for (const id of this.#enforcer.workloads.keys()) {
      const { lost, told } = this.#kernel.counters(id);
      lost.forEach((n, ring) => {
        const more = n - told[ring];
        if (more <= 0n) return;
        this.#gap(id, RING_NAMES[ring], more);
        this.#kernel.toldLost(id, ring, more);
      });
    }
    for (const [failure, count] of this.#kernel.takeFailures())
      if (count > 0) this.#emit({ ...this.#base(), type: 'failure', failure, count: count.toString() });
  }

  /** @param now CLOCK_BOOTTIME, ns; 0 = as of their first report */
  #repeats(now: bigint): (key: bigint, count: bigint, workload: number) => void {
    return (key, count, workload) => {
      const first = this.#firsts.get(key);
      if (first) this.#alert(first.kept({ time: now || first.time, count }));
      // its first report was lost, or went to an agent before this one
      else this.#gap(workload, 'folded', count);
    };
  }

  #gap(workload: number, ring: GapRecord['ring'], lost: bigint): void {
    this.#emit({ ...this.#base(), type: 'gap', ...this.#whose(workload), ring, lost: lost.toString() });
  }

  /** Of a record that tells of no one operation. */
  #base() {
    const { id, sequence } = this.#next();
    const time = (BigInt(Date.now()) * 1_000_000n).toString();
    return { schema: 'belay.v1' as const, time, id, sequence: sequence.toString(), node: this.#origin.node };
  }

  #whose(workload: number): { namespace: string; pod: string; container: string } {
    const w = this.#enforcer.workloads.get(workload);
    return { namespace: w?.namespace ?? '', pod: w?.name ?? '', container: w?.container ?? '' };
  }
}
