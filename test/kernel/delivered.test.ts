import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BelayRecord } from '../../agent/event/record.js';
import { structs } from '../../agent/kernel/abi.js';
import {
  ACT,
  Belay,
  type BelayOptions,
  cgroup,
  eventually,
  inCgroup,
  makeCgroup,
  policy,
  removeCgroup,
  T,
  workload,
} from './harness.js';

const BPFFS = '/sys/fs/bpf';
const PIN = `${BPFFS}/delivered`;
const HERE = '/tmp/delivered';
const SECRET = `${T}/secret`;
const loud = cgroup('loud');
const quiet = cgroup('quiet');

const options: BelayOptions = {
  workloads: [workload('loud', loud), workload('quiet', quiet)],
  policies: {
    'policy.yaml': policy(
      'stays',
      `file: {matchPaths: [{path: ${SECRET}}], matchDirectories: [{dir: ${T}/many/, recursive: true}]}`,
    ),
  },
  flags: ['--pin', PIN, '--config', `${HERE}/config.yaml`],
};

let belay: Belay;

beforeAll(async () => {
  mkdirSync(BPFFS, { recursive: true });
  if (!readFileSync('/proc/mounts', 'utf8').includes(` ${BPFFS} bpf `))
    execFileSync('mount', ['-t', 'bpf', 'bpf', BPFFS]);
  for (const directory of [T, HERE]) rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(T, 'many'), { recursive: true });
  mkdirSync(HERE);
  writeFileSync(SECRET, '');
  // the second has room for less than what happens
  const file = (name: string, spoolMiB: number) =>
    `- {name: ${name}, type: file, path: ${HERE}/${name}.jsonl, maxMiB: 1000, spoolMiB: ${spoolMiB}}`;
  writeFileSync(
    `${HERE}/config.yaml`,
    `spool: ${HERE}/spool\nsinks:\n${file('roomy', 256)}\n${file('tight', 1)}\n`,
  );
  for (const path of [loud, quiet]) makeCgroup(path);
  belay = await Belay.start(options);
});

afterAll(async () => {
  await belay?.stop();
  for (const path of [loud, quiet]) await removeCgroup(path);
  execFileSync('rm', ['-rf', PIN]);
});

/** What a sink's file tells of a workload's events: each record once, and those that gaps count. */
function told(sink: string, pod: string): { alerts: number; counted: number } {
  const text = existsSync(`${HERE}/${sink}.jsonl`) ? readFileSync(`${HERE}/${sink}.jsonl`, 'utf8') : '';
  const records = text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as BelayRecord)
    .filter((r) => 'pod' in r && r.pod === pod);
  const once = new Map(records.map((r) => [r.id, r]));
  let [alerts, counted] = [0, 0];
  for (const r of once.values()) {
    if (r.type === 'gap') counted += Number(r.lost);
    else if (r.type === 'alert') alerts += Number(r.count);
  }
  return { alerts, counted };
}

const sum = ({ alerts, counted }: { alerts: number; counted: number }) => alerts + counted;

/** Waits until a sink has, or counts, so many events of a workload. */
async function arrives(sink: string, pod: string, events: number): Promise<void> {
  const end = performance.now() + 240_000;
  while (sum(told(sink, pod)) < events) {
    if (performance.now() > end)
      throw new Error(`${sink} has ${JSON.stringify(told(sink, pod))} of ${events} of ${pod}`);
    await sleep(1000);
  }
}

/** Attempts of a workload, each denied. `many`: each of a name of its own, so that none is another's repeat. */
async function attempt(path: string, what: 'many' | 'same', times: number): Promise<void> {
  const shell = inCgroup(path);
  const command = what === 'many' ? `create-counted ${T}/many/` : `read ${SECRET}`;
  expect(await shell.run(`${ACT} -n ${times} ${command}`)).toBe('0');
  await shell.close();
}

describe('what is denied', () => {
  it('is delivered or counted, exactly, in every workload and by every sink, however the agent is killed', {
    timeout: 1_200_000,
  }, async () => {
    const produced = { loud: 0, quiet: 0 };
    for (let kill = 0; kill < 2; kill++) {
      const attack = Promise.all([
        attempt(loud, 'many', 20_000),
        attempt(loud, 'same', 20_000),
        attempt(quiet, 'same', 3_000),
      ]);
      produced.loud += 40_000;
      produced.quiet += 3_000;
      await sleep(500 + kill * 1500 + Math.random() * 1000);
      await belay.stop('SIGKILL');
      belay = Belay.spawn(options);
      await attack;
      if (kill === 0) {
        // in its first seconds of telling what waited
        await eventually('it is ready', () => existsSync(join(belay.folder, 'ready')) || undefined, 300_000);
        await sleep(Math.random() * 1500);
        await belay.stop('SIGKILL');
        belay = Belay.spawn(options);
      }
    }
    await eventually(
      'the agent is ready',
      () => existsSync(join(belay.folder, 'ready')) || undefined,
      300_000,
    );
    for (const sink of ['roomy', 'tight'])
      for (const pod of ['loud', 'quiet'] as const) {
        await arrives(sink, pod, produced[pod]);
        // and no more
        await sleep(2000);
        expect(sum(told(sink, pod)), `${sink}, ${pod}`).toBe(produced[pod]);
        expect(told(sink, pod).alerts).toBeGreaterThan(0);
      }
  });

  it('by one workload finds room although another’s flood has filled its share, while nobody reads', {
    timeout: 600_000,
  }, async () => {
    const meanwhile = async (attempts: () => Promise<void>) => {
      belay.signal('SIGSTOP');
      await attempts();
      belay.signal('SIGCONT');
    };
    let before = { loud: told('roomy', 'loud'), quiet: told('roomy', 'quiet') };
    // what it once held itself does not count once that is read
    await meanwhile(() => attempt(quiet, 'many', 2000));
    await arrives('roomy', 'quiet', sum(before.quiet) + 2000);
    expect(told('roomy', 'quiet').counted).toBeGreaterThan(before.quiet.counted);

    before = { loud: told('roomy', 'loud'), quiet: told('roomy', 'quiet') };
    await meanwhile(async () => {
      await attempt(loud, 'many', 20_000);
      for (let i = 0; i < 5; i++) await attempt(quiet, 'same', 1);
    });
    await arrives('roomy', 'loud', sum(before.loud) + 20_000);
    await arrives('roomy', 'quiet', sum(before.quiet) + 5);
    const bytes = (told('roomy', 'loud').alerts - before.loud.alerts) * structs.event.size;
    // far less than there is room for: others' would wait behind it
    expect(bytes).toBeLessThan(512 << 10);
    // the flood's did not all fit, and none of the other's was among those
    expect(told('roomy', 'loud').counted - before.loud.counted).toBeGreaterThan(5000);
    expect(told('roomy', 'quiet').counted).toBe(before.quiet.counted);
  });
});
