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
  logRecord,
  type RecordContext,
  unknownPodRecord,
} from './record.js';

const FOLD_WINDOW_NS = 1_000_000_000n;
const SWEEP_MS = 500;
/** As many first reports are remembered as there can be folds under way, twice over. */
const REMEMBERED = 2 * maps.folds.entries;
/** Where events are lost, as Kernel.counters has them. */
const LOSSES = ['denials', 'matches', 'telemetry', 'budget'] as const;

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
  /** The same of telemetry, however much there is of it. */
  readonly #firstLogs = new Map<bigint, EventReader>();
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
      const log = raw.ring === enums.ring.RING_TELEMETRY;
      if (raw.foldKey !== 0n) {
        const firsts = log ? this.#firstLogs : this.#firsts;
        firsts.delete(raw.foldKey);
        firsts.set(raw.foldKey, raw.kept());
      }
      if (log) this.#log(raw);
      else this.#alert(raw);
    }
    for (const firsts of [this.#firsts, this.#firstLogs]) {
      for (const key of firsts.keys()) {
        if (firsts.size <= REMEMBERED) break;
        firsts.delete(key);
      }
    }
  }

  #log(raw: RawEvent): void {
    const made = raw.operation === enums.operation.OPERATION_EXEC ? execRecord : logRecord;
    this.#emit(made(raw, this.#enforcer.attribute(raw.workload, 0, 0), this.#context()));
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
        this.#gap(id, LOSSES[ring], more);
        this.#kernel.toldLost(id, ring, more);
      });
    }
    for (const [failure, count] of this.#kernel.takeFailures())
      if (count > 0) this.#emit({ ...this.#base(), type: 'failure', failure, count: count.toString() });
  }

  /** @param now CLOCK_BOOTTIME, ns; 0 = as of their first report */
  #repeats(now: bigint): (key: bigint, count: bigint, workload: number, rule: number) => void {
    return (key, count, workload, rule) => {
      const log = rule === enums.built_in_rule.RULE_NONE;
      const first = (log ? this.#firstLogs : this.#firsts).get(key);
      const repeated = first?.kept({ time: now || first.time, count });
      if (repeated) log ? this.#log(repeated) : this.#alert(repeated);
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
