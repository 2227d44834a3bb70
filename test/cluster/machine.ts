import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Daemon, startDaemon } from '../api/control-plane.js';
import { eventually, PROJECT } from '../kernel/harness.js';

export interface MachineOptions {
  /** 6.1, 6.12 or latest. */
  readonly kernel: string;
  /** MiB. */
  readonly memory: number;
  /** As QEMU's -netdev has it. */
  readonly network: string;
  /** What runs in it, until it is ready for commands and from then on: test/cluster/node. */
  readonly program: string;
}

export interface CommandResult {
  readonly status: number;
  /** Both streams, as they came. */
  readonly output: string;
}

/**
 * Emulated processors halt each other now and then, so where this host has no two to spare for a machine, one is quicker.
 */
const PROCESSORS = process.env.BELAY_CLUSTER_PROCESSORS ?? '2';

/** Longer than any test runs. */
const LIFETIME_S = 6 * 3600;

/**
 * A virtual machine that stays: commands are run in it as root, several at once, and what it writes below /results can
 * be read here at once. It ends with the process that started it.
 */
export class Machine {
  /** On this host; /results in the machine. */
  readonly results: string;
  readonly #daemon: Daemon;
  readonly #folder: string;
  readonly #socket: Socket;
  #commands = 0;

  private constructor(folder: string, daemon: Daemon, socket: Socket) {
    this.#folder = folder;
    this.results = join(folder, 'results');
    this.#daemon = daemon;
    this.#socket = socket;
  }

  /** @param prepare fills /results before the machine starts */
  static async start(options: MachineOptions, prepare: (results: string) => void): Promise<Machine> {
    const folder = mkdtempSync(join(tmpdir(), 'belay-machine.'));
    const results = join(folder, 'results');
    const line = join(folder, 'line');
    mkdirSync(results);
    prepare(results);
    const serial = [
      '-device virtio-serial-pci',
      `-chardev socket,id=jobs,path=${line},server=on,wait=off`,
      '-device virtserialport,chardev=jobs,name=jobs',
    ];
    const daemon = startDaemon(folder, 'vm', join(PROJECT, 'test/vm/vm'), [
      ...['--kernel', options.kernel, '--memory', String(options.memory)],
      ...['--cpus', PROCESSORS, '--timeout', String(LIFETIME_S)],
      ...['--results', results, '--nic', options.network, '--qemu', serial.join(' ')],
      ...['--', options.program],
    ]);
    const check = () => {
      if (!daemon.running) throw new Error(`the machine has ended:\n${daemon.said}`);
    };
    try {
      // a machine that hangs while it boots is started again, so only one that has got far is worth connecting to
      await eventually(
        'the machine is ready',
        () => {
          check();
          return readFileSync(daemon.log, 'utf8').includes('ready\n') || undefined;
        },
        300_000,
      );
      return new Machine(folder, daemon, connect(line));
    } catch (error) {
      await daemon.stop('SIGTERM');
      throw error;
    }
  }

  /** Runs a bash script as root, in the project's folder. */
  async run(script: string, deadline = 300_000): Promise<CommandResult> {
    const number = ++this.#commands;
    const at = (suffix: string) => join(this.results, 'jobs', `${number}.${suffix}`);
    writeFileSync(at('sh'), script);
    this.#socket.write(`${number}\n`);
    await eventually(
      `the guest's command ${script}`,
      () => {
        if (!this.#daemon.running) throw new Error(`the machine has ended:\n${this.#daemon.said}`);
        return existsSync(at('status')) || undefined;
      },
      deadline,
    );
    const result = {
      status: Number(readFileSync(at('status'), 'utf8')),
      output: readFileSync(at('output'), 'utf8'),
    };
    for (const suffix of ['sh', 'status', 'output']) rmSync(at(suffix));
    return result;
  }

  /** The end of a log of it: kubelet, containerd. */
  log(name: string, lines = 20): string {
    const path = join(this.results, 'logs', `${name}.log`);
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(-lines).join('\n') : '';
  }

  async stop(): Promise<void> {
    this.#socket.destroy();
    await this.#daemon.stop('SIGTERM');
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
