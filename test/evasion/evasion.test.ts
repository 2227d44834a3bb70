import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Belay,
  cgroup,
  containerName,
  eventually,
  inCgroup,
  makeCgroup,
  PROJECT,
  policy,
  removeCgroup,
  Shell,
  type WorkloadEntry,
  workload,
} from '../kernel/harness.js';
import { type Outcome, type Results, readLimits, readOutcomes, unstated } from './outcomes.js';

/**
 * What tries to get around the policy runs twice in each surrounding: without a policy, which shows what works there
 * at all, and with it.
 */
const PROGRAM = join(PROJECT, 'build/evasion/evade');
const SHARED = '/tmp/evasion';
const HARMLESS = policy('evasion', 'capabilities: {matchCapabilities: [{capability: sys_boot}]}');
const GROUP = process.env.BELAY_EVASION_GROUP;
const TECHNIQUE = process.env.BELAY_EVASION_TECHNIQUE;

interface Place {
  readonly shell: Shell;
  readonly program: string;
  readonly root: string;
  end(): Promise<void>;
}

interface Surrounding {
  readonly name: string;
  /** As which user the techniques are tried. */
  readonly uid?: number;
  open(name: string, path: string): Promise<Place>;
}

const container =
  (...args: string[]) =>
  async (name: string): Promise<Place> => {
    const shell = new Shell('ctr', [
      ...['run', '--rm', '--net-host'],
      ...['--mount', `type=bind,src=${join(PROJECT, 'build')},dst=/belay,options=rbind:ro`],
      ...['--mount', `type=bind,src=${SHARED},dst=${SHARED},options=rbind:rw`],
      ...args,
      ...['localhost/nginx:1', name, '/bin/sh'],
    ]);
    expect(await shell.run('echo inside')).toBe('inside');
    return { shell, program: '/belay/evasion/evade', root: '/e', end: () => shell.close() };
  };

/** In a cgroup and nothing more; what was open before it went there stays open, as its descriptor 9. */
const bare = async (name: string, path: string): Promise<Place> => {
  mkdirSync(path, { recursive: true });
  const shell = new Shell('/bin/sh', [
    ...['-c', `exec 9< ${SHARED}/held/file; echo $$ > ${path}/cgroup.procs; exec /bin/sh`],
  ]);
  return {
    shell,
    program: PROGRAM,
    root: `/run/${name}`,
    end: async () => {
      await shell.close();
      await removeCgroup(path);
      // it has names that are longer than Node can say
      execFileSync('rm', ['-rf', `/run/${name}`]);
    },
  };
};

const SURROUNDINGS: readonly Surrounding[] = [
  { name: 'container', open: container() },
  { name: 'container, uid 1000', uid: 1000, open: container() },
  {
    name: 'privileged container in the node’s pid namespace',
    open: container('--privileged', '--with-ns', 'pid:/proc/1/ns/pid'),
  },
  { name: 'process of the node, root', open: bare },
  { name: 'process of the node, uid 1000', uid: 1000, open: bare },
];

const chosen = SURROUNDINGS.filter(({ name }) => name.startsWith(process.env.BELAY_EVASION_IN ?? ''));
const places = chosen.map((surrounding) => ({ surrounding, ...containerName(), without: containerName() }));

let belay: Belay;
const results: Results = { kernel: process.env.BELAY_VM ?? '', surroundings: {} };

function witness(): void {
  const child = spawn(PROGRAM, ['witness', '-s', SHARED], { stdio: 'ignore', detached: true });
  child.unref();
}

beforeAll(async () => {
  if (chosen.some(({ open }) => open !== bare)) {
    const images = execFileSync(join(PROJECT, 'test/vm/images'), { encoding: 'utf8' }).trim();
    execFileSync(join(PROJECT, 'test/vm/containerd'), [join(images, 'nginx.tar')]);
  }
  for (const module of ['sctp', 'tun', 'loop', 'binfmt_misc', 'dccp_ipv4', 'mptcp_diag', 'smc', 'l2tp_ip6']) {
    try {
      execFileSync('modprobe', [module], { stdio: 'ignore' });
    } catch {
      // what this kernel does not have is n/a
    }
  }
  writeFileSync('/proc/sys/net/ipv4/tcp_fastopen', '3');
  writeFileSync('/proc/sys/net/ipv4/ping_group_range', '0 2147483647');
  mkdirSync(SHARED, { recursive: true });
  const entries: WorkloadEntry[] = places.map(({ name, cgroup }) => workload(name, cgroup));
  belay = await Belay.start({ workloads: entries });
  await belay.enforce(HARMLESS);
  // it needs what setup makes, which every surrounding makes anew
  const first = inCgroup(makeCgroup(cgroup('evasion-first')));
  await first.run(`${PROGRAM} setup -e /run/first -s ${SHARED}`);
  await first.close();
  witness();
  await eventually('the witness', () => existsSync(`${SHARED}/witness`) || undefined);
});

afterAll(async () => {
  if (existsSync('/results')) writeFileSync('/results/evasion.json', JSON.stringify(results));
  await belay?.stop();
});

async function attempt(surrounding: Surrounding, name: string, path: string, control?: string) {
  await belay.enforce(HARMLESS);
  const place = await surrounding.open(name, path);
  try {
    const where = `-e ${place.root} -s ${SHARED}`;
    expect(await place.shell.run(`${place.program} setup ${where}`)).toBe('');
    if (control !== undefined) {
      const rules = execFileSync(PROGRAM, ['policy', '-e', place.root, '-s', SHARED], { encoding: 'utf8' });
      await belay.enforce(policy('evasion', rules));
    }
    const more = [
      ...(surrounding.uid === undefined ? [] : ['-u', String(surrounding.uid)]),
      ...(control === undefined ? [] : ['-c', control]),
      ...(GROUP === undefined ? [] : ['-g', GROUP]),
      ...(TECHNIQUE === undefined ? [] : ['-t', `'${TECHNIQUE}'`]),
    ];
    return await place.shell.run(`${place.program} run ${where} ${more.join(' ')}`, 800_000);
  } finally {
    await place.end();
  }
}

describe.each(places)('in a $surrounding.name', ({ surrounding, name, cgroup: path, without }) => {
  let outcomes: readonly Outcome[];

  it('every technique can be tried', { timeout: 1_800_000 }, async () => {
    const control = `${SHARED}/control`;
    const freely = await attempt(surrounding, without.name, without.cgroup);
    writeFileSync(control, freely);
    if (existsSync('/results')) writeFileSync(`/results/${name}.control`, freely);
    const text = await attempt(surrounding, name, path, control);
    if (existsSync('/results')) writeFileSync(`/results/${name}.policy`, text);
    outcomes = readOutcomes(text);
    results.surroundings[surrounding.name] = outcomes;
    // what ended the run half-way would be no result
    expect(outcomes.map((o) => o.technique)).toEqual(readOutcomes(freely).map((o) => o.technique));
    expect(outcomes.some((o) => o.result === 'blocked')).toBe(true);
  });

  it('nothing gets around the policy but by the limits stated in SECURITY.md', () => {
    const limits = readLimits(readFileSync(join(PROJECT, 'SECURITY.md'), 'utf8'));
    expect(unstated(outcomes, limits)).toEqual([]);
  });
});
