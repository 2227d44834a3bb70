import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { AlertRecord, BelayRecord } from '../../agent/event/record.js';
import { eventually, PROJECT, quote } from '../kernel/harness.js';
import type { Machine } from './machine.js';

/** A line of the agent's log, and what some of them have. */
export interface Said {
  /** ms, by the node's clock. */
  readonly time: number;
  readonly msg: string;
  readonly policies?: number;
  readonly workloads?: number;
}

/** The JSON lines of a file that grows; what else is in it is passed over. Each is read once. */
class Lines<T> {
  #read = 0;
  readonly #all: T[] = [];

  of(path: string): readonly T[] {
    if (!existsSync(path) || statSync(path).size === this.#read) return this.#all;
    const bytes = readFileSync(path).subarray(this.#read);
    const whole = bytes.subarray(0, bytes.lastIndexOf(0x0a) + 1);
    this.#read += whole.length;
    for (const line of whole.toString('utf8').split('\n'))
      if (line.startsWith('{')) this.#all.push(JSON.parse(line));
    return this.#all;
  }
}

/** `belay agent --kubernetes` on the node. What it has written stays when it ends, and so does what it pinned. */
export class Agent {
  readonly #machine: Machine;
  readonly #flags: readonly string[];
  #pid: string | undefined;
  readonly #records = new Lines<BelayRecord>();
  readonly #said = new Lines<Said>();

  constructor(machine: Machine, node: string, kubeconfig: string) {
    this.#machine = machine;
    this.#flags = [
      ...['agent', '--kubernetes', '--node', node, '--kubeconfig', kubeconfig],
      ...[
        '--pin',
        '/sys/fs/bpf/belay',
        '--output',
        '/results/events.jsonl',
        '--ready-file',
        '/results/ready',
      ],
    ];
  }

  /** Starts it and waits until it enforces. */
  async start(flags: readonly string[] = []): Promise<void> {
    await this.launch(flags);
    await this.ready();
  }

  /** Waits until the one that was launched enforces. */
  async ready(): Promise<void> {
    await eventually(
      'the agent is ready',
      () => existsSync(join(this.#machine.results, 'ready')) || undefined,
      600_000,
    ).catch((error) => {
      throw new Error(`${error.message}; it said:\n${this.log.slice(-2000)}`);
    });
  }

  /** Starts it. */
  async launch(flags: readonly string[] = []): Promise<void> {
    // as main.js has itself started
    const node = [process.execPath, '--max-semi-space-size=2'];
    const command = [...node, join(PROJECT, 'dist/bin/main.js'), ...this.#flags, ...flags].map(quote);
    const { output } = await this.#machine.run(
      `rm -f /results/ready; setsid ${command.join(' ')} >> /results/agent.log 2>&1 & echo $!`,
    );
    this.#pid = output.trim();
  }

  /** With SIGKILL: it can do nothing more. */
  async kill(): Promise<void> {
    await this.#end('KILL');
  }

  /** As a node's manager would, and waits until it has ended. */
  async stop(): Promise<void> {
    await this.#end('TERM');
  }

  async #end(signal: string): Promise<void> {
    if (this.#pid === undefined) return;
    const pid = this.#pid;
    this.#pid = undefined;
    const { status } = await this.#machine.run(
      `kill -${signal} ${pid}; for _ in {1..300}; do [ -e /proc/${pid} ] || exit 0; sleep 0.1; done; exit 1`,
    );
    if (status !== 0) throw new Error(`the agent does not end by SIG${signal}`);
  }

  /** What it has said on standard error, of all its lives. */
  get log(): string {
    const path = join(this.#machine.results, 'agent.log');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** The same, what it has said in its log. */
  said(): readonly Said[] {
    return this.#said.of(join(this.#machine.results, 'agent.log'));
  }

  /** Every record so far, of all its lives. */
  records(): readonly BelayRecord[] {
    return this.#records.of(join(this.#machine.results, 'events.jsonl'));
  }

  alerts(wanted: (alert: AlertRecord) => boolean = () => true): AlertRecord[] {
    return this.records().filter(
      (record): record is AlertRecord => record.type === 'alert' && wanted(record),
    );
  }
}
