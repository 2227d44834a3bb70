import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { enums } from '../kernel/abi.js';
import type { Enforcer } from '../kernel/enforcer.js';
import type { Kernel } from '../kernel/kernel.js';
import type { Repeats, Untold } from '../kernel/untold.js';
import type { Position } from '../sink/spool/spool.js';
import { EventReader, type RawEvent } from './decode.js';
import { Firsts } from './firsts.js';
import { alertRecord, execRecord, logRecord, type RecordContext, unknownPodRecord } from './make-record.js';
import type { AlertRecord, BelayRecord, GapRecord, ThrottleRecord } from './record.js';
import type { Throttle } from './throttle.js';

const FOLD_WINDOW_NS = 1_000_000_000n;
const SWEEP_MS = 500;
/** Every program is asked, which takes long. */
const MISSED_MS = 5000;
/** Repeats are told in the first sweep after their window, if nothing holds it up. */
const REMEMBERED_NS = 5n * FOLD_WINDOW_NS;
/** Where events are lost, as Kernel.counters has them. */
const LOSSES = ['denials', 'matches', 'telemetry', 'budget'] as const;
const FAILURE_NAMES = Object.entries(enums.failure).map(([name]) => name);

/** Where everything that is told of happens. */
export interface Origin {
  readonly node: string;
  /** The cluster's name. */
  readonly cluster: string;
}

/** Who is told. */
export interface Told {
  /** @param position where the record comes from, if the next agent would find it there again after a kill */
  write(record: BelayRecord, position?: Position): void;
  /** Of this alert, only its number is to be told, by a gap record that comes in time. */
  withhold?(alert: AlertRecord, position?: Position): void;
  /** What was written is to be kept before this returns: then the kernel forgets it. */
  keep(): void;
  /**
   * A pod's or a container's cgroup was made; its path below the hierarchy's root. Before the records of what happened
   * there.
   */
  cgroupMade?(path: string): void;
}

type Whose = Pick<GapRecord, 'namespace' | 'pod' | 'container'>;

/** Of a record: its id, its place among all, and where it comes from. */
interface Place {
  readonly id: string;
  readonly sequence: bigint;
  readonly position?: Position;
}

/**
 * Records from the kernel, complete: each alert attributed, repeats as one with their number, and for what found no
 * room in a ring, or failed inside the programs, a record that says so. The kernel forgets what has been kept, and only that:
 * an agent after this one that finds it still there tells it again, by the same id.
 */
export class EventStream {
  readonly #kernel: Kernel;
  readonly #enforcer: Enforcer;
  readonly #told: Told;
  readonly #origin: Origin;
  readonly #throttle: Throttle | undefined;
  readonly #firsts = new Firsts();
  /** Of telemetry, however much there is of it. */
  readonly #firstLogs = new Firsts();
  readonly #reader = new EventReader();
  /** Goes on from one agent to the next, since none makes a million records a second for long. */
  #sequence = BigInt(Date.now()) * 1000n;
  /** What tells this start of the node from others, in ids. */
  readonly #boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').replaceAll('-', '').slice(0, 12);
  /** Of this agent's run, in the ids of what nobody could tell again. */
  readonly #instance = randomBytes(6).toString('hex');
  /** Where what is told in sweeps comes from. */
  readonly #sweeps: string;
  /** By ring: when what was read of it last happened, ns of CLOCK_BOOTTIME. */
  readonly #readUntil: bigint[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** When programs are asked next for runs that were missed, by performance.now(). */
  #missedNext = 0;

  constructor(kernel: Kernel, enforcer: Enforcer, origin: Origin, told: Told, throttle?: Throttle) {
    this.#kernel = kernel;
    this.#enforcer = enforcer;
    this.#origin = origin;
    this.#told = told;
    this.#throttle = throttle;
    this.#sweeps = this.#sourceOf(kernel.mapId('settings'));
  }

  /**
   * To be called when the enforcer knows the workloads: what was kept in the rings while no agent was there is told
   * with their names.
   * @returns true once programs of an earlier schema have been taken off; false = there were none
   */
  async start(): Promise<boolean> {
    const take = (batch: Buffer, rings: readonly number[]) => this.#take(batch, rings);
    this.#kernel.read(take);
    this.#timer = setInterval(() => this.#sweep(FOLD_WINDOW_NS), SWEEP_MS);
    const failures = await this.#kernel.retirePrevious(take, (repeats) =>
      this.#repeats(repeats, this.#next(), 0n),
    );
    for (const [failure, count] of failures ?? []) this.#failure(FAILURE_NAMES[failure], count, this.#next());
    return failures !== undefined;
  }

  /** Reports what there is and ends. */
  close(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#kernel.stopReading();
    this.#sweep(0n);
    this.#endThrottles(true);
  }

  #take(batch: Buffer, rings: readonly number[]): void {
    const sources = rings.map((id) => this.#sourceOf(id));
    const raw = this.#reader;
    raw.open(batch);
    while (raw.next()) {
      this.#readUntil[raw.ring] = raw.time;
      const place = this.#next({ source: sources[raw.ring], at: raw.position });
      if (raw.operation === enums.operation.OPERATION_CGROUP) {
        this.#cgroup(raw, place);
        continue;
      }
      const log = raw.ring === enums.ring.RING_TELEMETRY;
      if (raw.foldKey !== 0n) (log ? this.#firstLogs : this.#firsts).keep(raw);
      if (log) this.#log(raw, place);
      else this.#alert(raw, place);
    }
    this.#firsts.trim();
    this.#firstLogs.trim();
    if (raw.broken > 0) this.#failure('FAILURE_UNREADABLE', BigInt(raw.broken), this.#next());
    this.#told.keep();
  }

  #log(raw: RawEvent, place: Place): void {
    const made = raw.operation === enums.operation.OPERATION_EXEC ? execRecord : logRecord;
    const attribution = this.#enforcer.attribute(raw.workload, 0, 0);
    this.#told.write(made(raw, attribution, this.#context(place)), place.position);
  }

  #cgroup(raw: RawEvent, place: Place): void {
    const path = raw.object.toString();
    const { workload } = this.#enforcer.attribute(raw.workload, 0, 0);
    if (workload?.place?.kind === 'unknown')
      this.#told.write(unknownPodRecord(raw, path, this.#context(place)), place.position);
    this.#told.cgroupMade?.(path);
  }

  #alert(raw: RawEvent, place: Place): void {
    const attribution = this.#enforcer.attribute(raw.workload, raw.generation, raw.rule);
    const alert = alertRecord(raw, attribution, this.#context(place));
    const fate = this.#throttle?.take(alert) ?? 'told';
    if (fate === 'told') {
      this.#told.write(alert, place.position);
      return;
    }
    if (fate === 'first') this.#told.write(this.#throttled(alert));
    this.#told.withhold?.(alert, place.position);
  }

  #throttled(alert: AlertRecord): ThrottleRecord {
    const { cluster, namespace, pod, container, containerId, image, labels, owner } = alert;
    return {
      ...{ ...this.#base(this.#next()), type: 'throttle' },
      ...{ cluster, namespace, pod, container, containerId, image, labels, owner },
      maxAlertsPerSecond: this.#throttle?.limits?.alertsPerSecond ?? 0,
      throttleSeconds: this.#throttle?.limits?.seconds ?? 0,
    };
  }

  #endThrottles(all = false): void {
    for (const { first, count } of this.#throttle?.ended(all) ?? []) {
      const { namespace, pod, container } = first;
      this.#tellGap({ namespace, pod, container }, 'throttled', count, this.#next());
    }
  }

  #context({ id, sequence }: Place): RecordContext {
    // no copy of the origin with more to it: see record() in make-record.ts
    const { node, cluster } = this.#origin;
    return { node, cluster, bootTime: this.#kernel.bootTime, id, sequence };
  }

  /** A map of this start of the node, which no other ever is. */
  #sourceOf(map: number): string {
    return `${this.#boot}-${map.toString(36)}`;
  }

  #next(position?: Position): Place {
    const sequence = ++this.#sequence;
    const id = position
      ? `${position.source}-${position.at.toString(36)}`
      : `${this.#instance}-${sequence.toString(36)}`;
    return { id, sequence, position };
  }

  #sweep(window: bigint): void {
    const bootTime = this.#kernel.bootTime;
    const unix = BigInt(Date.now()) * 1_000_000n;
    const now = unix - bootTime;
    const logs = this.#unreadSince([enums.ring.RING_TELEMETRY]);
    const alerts = this.#unreadSince([enums.ring.RING_DENIALS, enums.ring.RING_MATCHES]);
    // repeats whose first report may still be in a ring
    const all = this.#kernel.counted.sweep(now, window, (key, rule, since) => {
      const [unread, firsts] =
        rule === enums.built_in_rule.RULE_NONE ? [logs, this.#firstLogs] : [alerts, this.#firsts];
      return unread !== undefined && unread < since + FOLD_WINDOW_NS && firsts.get(key) === undefined;
    });
    for (const untold of all) this.#untold(untold, now);
    this.#firsts.trim((alerts ?? now) - REMEMBERED_NS);
    this.#firstLogs.trim((logs ?? now) - REMEMBERED_NS);
    if (all.length > 0) this.#told.keep();
    this.#kernel.counted.told();
    this.#tellMissed(window === 0n);
    this.#endThrottles();
  }

  #tellMissed(last: boolean): void {
    if (!last && performance.now() < this.#missedNext) return;
    this.#missedNext = performance.now() + MISSED_MS;
    const missed = this.#kernel.takeMissed();
    if (missed > 0) this.#failure('FAILURE_MISSED', BigInt(missed), this.#next());
  }

  /** From when on what some rings tell of may not have been read, ns of CLOCK_BOOTTIME; undefined = all has been. */
  #unreadSince(rings: readonly number[]): bigint | undefined {
    const positions = this.#kernel.ringPositions();
    const times = rings.flatMap((ring) => {
      const [read, written] = positions[ring] ?? [0, 0];
      return read < written ? [this.#readUntil[ring] ?? 0n] : [];
    });
    return times.reduce<bigint | undefined>((a, b) => (a === undefined || b < a ? b : a), undefined);
  }

  #untold(untold: Untold, now: bigint): void {
    const place = this.#next({ source: this.#sweeps, at: untold.at });
    if (untold.kind === 'repeats') this.#repeats(untold, place, now);
    else if (untold.kind === 'lost') this.#gap(untold.workload, LOSSES[untold.ring], untold.count, place);
    else this.#failure(FAILURE_NAMES[untold.failure], untold.count, place);
  }

  /** @param now CLOCK_BOOTTIME, ns; 0 = as of their first report */
  #repeats({ key, count, workload, rule }: Repeats, place: Place, now: bigint): void {
    const log = rule === enums.built_in_rule.RULE_NONE;
    const first = (log ? this.#firstLogs : this.#firsts).get(key);
    const repeated = first?.kept({ time: now || first.time, count });
    if (repeated) log ? this.#log(repeated, place) : this.#alert(repeated, place);
    // its first report was lost, went to an agent before this one, or found no room among others
    else this.#gap(workload, 'folded', count, place);
  }

  #gap(workload: number, ring: GapRecord['ring'], lost: bigint, place: Place): void {
    this.#tellGap(this.#whose(workload), ring, lost, place);
  }

  #tellGap(whose: Whose, ring: GapRecord['ring'], lost: bigint, place: Place): void {
    const record = { ...this.#base(place), type: 'gap', ...whose, ring } as const;
    this.#told.write({ ...record, lost: lost.toString() }, place.position);
  }

  #failure(failure: string, count: bigint, place: Place): void {
    const record = { ...this.#base(place), type: 'failure', failure, count: count.toString() } as const;
    this.#told.write(record, place.position);
  }

  /** Of a record that tells of no one operation. */
  #base({ id, sequence }: Place) {
    const time = (BigInt(Date.now()) * 1_000_000n).toString();
    return { schema: 'belay.v1' as const, time, id, sequence: sequence.toString(), node: this.#origin.node };
  }

  #whose(workload: number): Whose {
    const w = this.#enforcer.attribute(workload, 0, 0).workload;
    return { namespace: w?.namespace ?? '', pod: w?.name ?? '', container: w?.container ?? '' };
  }
}
