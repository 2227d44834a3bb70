import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { safeJson } from '../event/safe-json.js';
import type { CostsView, WorkloadView } from '../serve/node-view.js';
import { type AgentClient, socketOption, withAgent } from './client.js';
import { printable } from './event-columns.js';
import { colours, pad } from './terminal.js';

/** `belay top`: who is busiest, which rules speak most, and what the hooks cost. */
export function topCommand(): Command {
  return new Command('top')
    .description("the busiest workloads and rules of this node, and what enforcement's hooks cost")
    .addOption(socketOption())
    .option('-i, --interval <seconds>', 'time between two looks', seconds, 2)
    .option('-c, --count <number>', 'end after so many looks', whole)
    .option('-l, --lines <number>', 'lines of each table', whole, 8)
    .option('--json', 'print each look as a JSON object')
    .action((options: TopOptions) => withAgent('top', options.socket, (agent) => top(agent, options)));
}

interface TopOptions {
  readonly socket: string;
  readonly interval: number;
  readonly count?: number;
  readonly lines: number;
  readonly json?: boolean;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value >= 0.2 && value <= 3600)) throw new InvalidArgumentError('Write seconds, from 0.2 to 3600.');
  return value;
}

function whole(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('Write a number from 1 on.');
  return Number(text);
}

/** What one look has counted, and when (performance.now()). */
export interface Look {
  readonly at: number;
  readonly workloads: readonly WorkloadView[];
  readonly costs: CostsView;
  /** Since the start, by policy and rule. */
  readonly rules: ReadonlyMap<string, number>;
}

async function top(agent: AgentClient, { interval, count, lines, json }: TopOptions): Promise<void> {
  const rules = new Map<string, number>();
  let broken: unknown;
  const counting = countRules(agent, rules).catch((error: unknown) => {
    broken = error;
  });
  const look = async (): Promise<Look> => {
    const [{ workloads }, costs] = await Promise.all([
      agent.ask<{ workloads: WorkloadView[] }>('Workloads'),
      agent.ask<CostsView>('Costs', { measure: true }),
    ]);
    return { at: performance.now(), workloads, costs, rules: new Map(rules) };
  };
  let before = await look();
  for (let n = 0; count === undefined || n < count; n++) {
    await sleep(interval * 1000);
    if (broken !== undefined) throw broken;
    const now = await look();
    const rates = ratesOf(before, now);
    if (json) process.stdout.write(`${safeJson(rates)}\n`);
    else {
      if (process.stdout.isTTY) process.stdout.write('\x1b[2J\x1b[H');
      process.stdout.write(`${draw(rates, lines)}\n`);
    }
    before = now;
  }
  agent.close();
  await counting;
}

async function countRules(agent: AgentClient, rules: Map<string, number>): Promise<void> {
  for await (const record of agent.records({ type: 'alert', after: 'now' })) {
    if (record.type !== 'alert') continue;
    const rule = record.policy ? `${record.policy}: ${record.rule}` : record.rule;
    rules.set(rule, (rules.get(rule) ?? 0) + Number(record.count));
  }
}

export interface Rates {
  readonly workloads: readonly { workload: string; denied: number; reported: number; lost: number }[];
  readonly rules: readonly { rule: string; events: number }[];
  readonly hooks: readonly { hook: string; runs: number; nanoseconds: number; share: number }[];
  readonly unmeasured: string;
}

/** Per second, the busiest first; of what was idle, nothing. */
export function ratesOf(before: Look, now: Look): Rates {
  const elapsed = (now.at - before.at) / 1000;
  const rate = (a: number | string | undefined, b: number | string) =>
    Math.max(0, Number(b) - Number(a ?? 0)) / elapsed;
  const nameOf = (w: WorkloadView) => [w.namespace, w.name, w.container].filter(Boolean).join('/');
  const was = new Map(before.workloads.map((w) => [nameOf(w), w]));
  const ran = new Map(before.costs.programs.map((p) => [p.name, p]));
  return {
    workloads: now.workloads
      .map((w) => {
        const then = was.get(nameOf(w));
        return {
          workload: nameOf(w),
          denied: rate(then?.denied, w.denied),
          reported: rate(then?.reported, w.reported),
          lost: rate(then?.lost, w.lost),
        };
      })
      .filter(({ denied, reported, lost }) => denied + reported + lost > 0)
      .sort((a, b) => b.denied + b.reported - (a.denied + a.reported)),
    rules: [...now.rules]
      .map(([rule, events]) => ({ rule, events: rate(before.rules.get(rule), events) }))
      .filter(({ events }) => events > 0)
      .sort((a, b) => b.events - a.events),
    hooks: now.costs.programs
      .map(({ name, runs, nanoseconds }) => {
        const then = ran.get(name);
        const [ranNow, spent] = [rate(then?.runs, runs), rate(then?.nanoseconds, nanoseconds)];
        return { hook: name, runs: ranNow, nanoseconds: ranNow > 0 ? spent / ranNow : 0, share: spent / 1e9 };
      })
      .filter(({ runs }) => runs > 0)
      .sort((a, b) => b.share - a.share),
    unmeasured: now.costs.unmeasured,
  };
}

/** As text, so many lines a table. */
export function draw({ workloads, rules, hooks, unmeasured }: Rates, lines: number): string {
  const number = (value: number) => value.toFixed(value < 10 ? 1 : 0).padStart(9);
  const table = (head: string, rows: readonly string[], none: string) =>
    [colours.bold(head), ...(rows.length > 0 ? rows.slice(0, lines) : [colours.gray(none)]), ''].join('\n');
  const total = hooks.reduce((sum, { share }) => sum + share, 0);
  return [
    table(
      `${pad('workload', 48)}  denied/s  reported/s    lost/s`,
      workloads.map(
        (w) =>
          `${pad(printable(w.workload), 48)} ${number(w.denied)}   ${number(w.reported)} ${number(w.lost)}`,
      ),
      'no workload was denied or reported anything',
    ),
    table(
      `${pad('rule', 48)}  events/s`,
      rules.map(({ rule, events }) => `${pad(printable(rule), 48)} ${number(events)}`),
      'no rule spoke',
    ),
    table(
      `${pad(`hook (all: ${(total * 100).toFixed(2)} % of a processor)`, 48)}    runs/s    ns/run         %`,
      hooks.map(
        ({ hook, runs, nanoseconds, share }) =>
          `${pad(hook, 48)} ${number(runs)} ${number(nanoseconds)} ${(share * 100).toFixed(3).padStart(9)}`,
      ),
      unmeasured ? `runs are not counted: ${unmeasured}` : 'no hook ran',
    ),
  ].join('\n');
}
