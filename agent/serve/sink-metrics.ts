import { Counter, Gauge, type Registry } from 'prom-client';
import type { SinkStats } from '../sink/sink.js';

/** What Prometheus is told of sinks, each by the name that the configuration gives it. */
export function sinkMetrics(registers: Registry[], sinks: () => readonly SinkStats[]): void {
  const labelNames = ['sink'] as const;
  const gauge = (name: string, help: string, value: (of: SinkStats) => number) =>
    new Gauge({
      ...{ name, help, labelNames, registers },
      collect() {
        for (const each of sinks()) this.set({ sink: each.name }, value(each));
      },
    });
  const counter = (name: string, help: string, value: (of: SinkStats) => number) =>
    new Counter({
      ...{ name, help, labelNames, registers },
      collect() {
        this.reset();
        for (const each of sinks()) this.inc({ sink: each.name }, value(each));
      },
    });
  counter('belay_sink_delivered_total', 'Records that the sink has.', ({ delivered }) => delivered);
  counter(
    'belay_sink_dropped_total',
    'Events that the sink does not get; it is told how many.',
    ({ dropped }) => dropped,
  );
  counter('belay_sink_failures_total', 'Attempts to deliver that failed.', ({ failures }) => failures);
  gauge('belay_sink_waiting', 'Records that wait on disk.', ({ waiting }) => waiting);
  gauge('belay_sink_spool_bytes', 'Bytes of the spool on disk.', ({ spoolBytes }) => spoolBytes);
  gauge('belay_sink_up', '1 = events reach the sink.', ({ trouble, diskTrouble }) =>
    trouble === undefined && diskTrouble === undefined ? 1 : 0,
  );
}
