import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CAPABILITIES as ALL } from '../../agent/policy/schema/words.js';
import { PROJECT, quote, Shell } from '../kernel/harness.js';
import { type Step, TOKENS } from './case.js';

/** Docker's, as container runtimes give them. */
const CAPABILITIES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'MKNOD', 'NET_BIND_SERVICE', 'NET_RAW'],
  ...['SETFCAP', 'SETGID', 'SETPCAP', 'SETUID', 'SYS_CHROOT', 'AUDIT_WRITE'],
].map((name) => `CAP_${name}`);
const BUNDLES = '/tmp/conformance';

/** All that this kernel knows. */
const all = (): string[] => {
  const last = Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
  return ALL.slice(0, last + 1).map((name) => `CAP_${name.toUpperCase()}`);
};

export interface ContainerOptions {
  readonly name: string;
  /** All capabilities. */
  readonly powerful?: boolean;
  /** That, and all of /proc and /sys to write. */
  readonly privileged?: boolean;
  /** Below the hierarchy's root; `conformance/NAME` without. */
  readonly cgroup?: string;
}

/** Makes what the containers are made of, if it is not there yet. */
export const ubuntuFiles = (): string =>
  execFileSync(join(PROJECT, 'test/conformance/ubuntu'), { encoding: 'utf8' }).trim();

/** Of a container that `start` will make. */
export const cgroupOf = (name: string) => `/sys/fs/cgroup/conformance/${name}`;

/** A real container of runc's, on an overlay as containerd makes it, in the node's network. */
export class Container {
  readonly #shell: Shell;
  readonly #bundle: string;

  private constructor(shell: Shell, bundle: string) {
    this.#shell = shell;
    this.#bundle = bundle;
  }

  /** @param lower its files, as `ubuntuFiles` has made them */
  static async start(
    { name, powerful = false, privileged = false, cgroup = `conformance/${name}` }: ContainerOptions,
    lower: string,
  ): Promise<Container> {
    const bundle = join(BUNDLES, name);
    for (const folder of ['rootfs', 'upper', 'work', 'tokens'])
      mkdirSync(join(bundle, folder), { recursive: true });
    writeFileSync(join(bundle, 'tokens', 'token'), 'token\n');
    const options = `lowerdir=${lower},upperdir=${join(bundle, 'upper')},workdir=${join(bundle, 'work')}`;
    execFileSync('mount', ['-t', 'overlay', '-o', options, 'overlay', join(bundle, 'rootfs')]);
    execFileSync('runc', ['spec'], { cwd: bundle });
    const config = join(bundle, 'config.json');
    const spec = JSON.parse(readFileSync(config, 'utf8'));
    const capabilities = powerful || privileged ? all() : CAPABILITIES;
    spec.process = {
      ...spec.process,
      terminal: false,
      args: ['bash'],
      env: [
        'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        'SHELL=/bin/bash',
        'HOME=/root',
      ],
      capabilities: Object.fromEntries(
        ['bounding', 'effective', 'permitted'].map((set) => [set, capabilities]),
      ),
      noNewPrivileges: false,
    };
    spec.root = { path: 'rootfs' };
    spec.hostname = undefined;
    spec.mounts.push({
      destination: TOKENS,
      type: 'bind',
      source: join(bundle, 'tokens'),
      options: ['rbind', 'ro'],
    });
    spec.linux.cgroupsPath = `/${cgroup}`;
    spec.linux.resources = {};
    spec.linux.namespaces = ['pid', 'ipc', 'mount'].map((type) => ({ type }));
    if (privileged) {
      spec.linux.maskedPaths = [];
      spec.linux.readonlyPaths = [];
    }
    writeFileSync(config, JSON.stringify(spec));
    const shell = new Shell('runc', ['run', '--bundle', bundle, name]);
    const greeting = await shell.run('chown -R 1000:1000 /home/user1 && echo inside');
    if (greeting !== 'inside') throw new Error(`container ${name} did not start: ${greeting}`);
    return new Container(shell, bundle);
  }

  outcome(step: Step): Promise<Step['outcome'] | string> {
    return outcomeOf(this.#shell, step);
  }

  async run(script: string): Promise<string> {
    return this.#shell.run(script);
  }

  /** Ends all of its processes, and leaves nothing of it behind. */
  async close(): Promise<void> {
    await this.#shell.run('kill -KILL -1 2>/dev/null; exit').catch(() => {});
    await this.#shell.close();
    execFileSync('umount', [join(this.#bundle, 'rootfs')]);
    rmSync(this.#bundle, { recursive: true });
  }
}

/** @returns the outcome that the step expects, or what it said instead */
export async function outcomeOf(
  shell: Shell,
  { run, tty, outcome }: Step,
): Promise<Step['outcome'] | string> {
  const bash = `bash -c ${quote(run)}`;
  const said = await shell.run(
    `${tty ? `script -qec ${quote(bash)} /dev/null` : bash}; echo "ended with $?"`,
  );
  if (outcome instanceof RegExp) return outcome.test(said) ? outcome : said;
  if (/permission denied/i.test(said)) return outcome === 'denied' ? outcome : said;
  return said.endsWith('ended with 0') && outcome === 'passes' ? outcome : said;
}
