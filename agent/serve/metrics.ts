import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { BelayRecord, GapRecord } from '../event/record.js';
import type { SinkStats } from '../sink/sink.js';
import { sinkMetrics } from './sink-metrics.js';

/** What is so at the moment of a scrape. */
export interface Present {
  /** By state: in_force, rejected. */
  readonly policies: Readonly<Record<string, number>>;
  readonly workloads: number;
  readonly policySets: number;
  readonly tableBytes: number;
  readonly sinks?: readonly SinkStats[];
  /** Clients that watch. */
  readonly watchers: number;
  /** Records that clients were too slow for, since the start. */
  readonly missed: number;
  readonly maps: readonly { readonly map: string; readonly used: number; readonly capacity: number }[];
  readonly programs: readonly {
    readonly program: string;
    readonly runs: number;
    readonly nanoseconds: number;
  }[];
}

export interface MetricsOptions {
  readonly version: string;
  /** The kernel's release. */
  readonly kernel: string;
  readonly present: () => Present;
}

/** What Prometheus is told. Nothing names a pod or a policy, so the number of series is fixed. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #events: Counter<'type' | 'verdict'>;
  readonly #denied: Counter;
  readonly #lost: Counter<'ring' | 'reason'>;
  readonly #throttled: Counter;
  readonly #failures: Counter<'failure'>;
  readonly #apply: Histogram;

  constructor({ version, kernel, present }: MetricsOptions) {
    const registers = [this.#registry];
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        ...{ name, help, registers },
        collect() {
          this.set(value());
        },
      });
    const info = {
      name: 'belay_build_info',
      help: 'The version of the agent and the release of the kernel.',
    };
    new Gauge({ ...info, labelNames: ['version', 'kernel'], registers }).set({ version, kernel }, 1);
    new Gauge({
      name: 'belay_policies',
      help: 'Policies by state; of a rejected one, the last good version is in force, if there is one.',
      labelNames: ['state'],
      registers,
      collect() {
        for (const [state, count] of Object.entries(present().policies)) this.set({ state }, count);
      },
    });
    gauge('belay_workloads', 'Workloads that the agent knows on this node.', () => present().workloads);
    gauge(
      'belay_policy_sets',
      'Different sets of policies in force; workloads that the same policies reach share one.',
      () => present().policySets,
    );
    gauge('belay_table_bytes', 'Bytes of tables in the kernel.', () => present().tableBytes);
    sinkMetrics(registers, () => present().sinks ?? []);
    gauge(
      'belay_watch_missed_total',
      'Events that clients were too slow for, since the start; each was told how many.',
      () => present().missed,
    );
    gauge('belay_watchers', 'Clients that watch events.', () => present().watchers);
    const each = (name: string, help: string, label: string, values: () => Iterable<[string, number]>) =>
      new Gauge({
        ...{ name, help, labelNames: [label], registers },
        collect() {
          this.reset();
          for (const [value, number] of values()) this.set({ [label]: value }, number);
        },
      });
    const maps = () => present().maps;
    const programs = () => present().programs;
    each(
      'belay_map_used',
      'What is in a map of the kernel programs: entries, or bytes in the arena.',
      'map',
      () => maps().map(({ map, used }) => [map, used]),
    );
    each('belay_map_capacity', 'What a map has room for.', 'map', () =>
      maps().map(({ map, capacity }) => [map, capacity]),
    );
    each('belay_hook_runs_total', 'Runs of a kernel program that were counted: samples.', 'program', () =>
      programs().map(({ program, runs }) => [program, runs]),
    );
    each('belay_hook_seconds_total', 'Time that the counted runs of a kernel program took.', 'program', () =>
      programs().map(({ program, nanoseconds }) => [program, nanoseconds / 1e9]),
    );
    this.#events = new Counter({
      name: 'belay_events_total',
      help: 'Events, repeats included.',
      labelNames: ['type', 'verdict'],
      registers,
    });
    this.#denied = new Counter({
      name: 'belay_denied_total',
      help: 'Operations that were denied.',
      registers,
    });
    this.#lost = new Counter({
      name: 'belay_events_lost_total',
      help: 'Events that found no room; the verdicts held.',
      labelNames: ['ring', 'reason'],
      registers,
    });
    this.#throttled = new Counter({
      name: 'belay_alerts_throttled_total',
      help: 'Alerts that were only counted, since their container had too many.',
      registers,
    });
    this.#failures = new Counter({
      name: 'belay_kernel_failures_total',
      help: 'What the kernel programs could not do.',
      labelNames: ['failure'],
      registers,
    });
    this.#apply = new Histogram({
      name: 'belay_apply_seconds',
      help: 'From a change being told to its being in force.',
      buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10],
      registers,
    });
  }

  record(record: BelayRecord): void {
    if (record.type === 'gap' && record.ring === 'throttled') this.#throttled.inc(Number(record.lost));
    else if (record.type === 'gap')
      this.#lost.inc({ ring: record.ring, reason: reasonOf(record) }, Number(record.lost));
    else if (record.type === 'failure') this.#failures.inc({ failure: record.failure }, Number(record.count));
    else {
      const count = 'count' in record ? Number(record.count) : 1;
      const verdict = record.type === 'alert' ? record.verdict : 'Passed';
      this.#events.inc({ type: record.type, verdict }, count);
      if (verdict !== 'Passed') this.#denied.inc(count);
    }
  }

  /** A change that was told of is in force. */
  applied(seconds: number): void {
    this.#apply.observe(seconds);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

/** Why events are missing: a ring was full, or what repeats were folded into never arrived. */
function reasonOf({ ring }: GapRecord): string {
  return ring === 'folded' ? 'first_report_lost' : 'ring_full';
}
