import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { AlertRecord } from '../../agent/event/record.js';
import {
  ACT,
  Belay,
  brief,
  cgroup,
  eventually,
  inCgroup,
  makeCgroup,
  PROJECT,
  policy,
  removeCgroup,
  Shell,
  T,
  workload,
} from './harness.js';

/** Opens of files while policies change: a million on one kernel, fewer on the others, which wait for each other. */
const OPENS = Number(
  process.env.BELAY_OPENS ?? (process.env.BELAY_VM?.startsWith('6.12') ? 1_000_000 : 200_000),
);
const path = cgroup('updates');
const coming = cgroup('coming');
const WORKLOADS = [workload('updates', path), workload('coming', coming)];
const SECRET = `${T}/secret`;
const FREE = `${T}/free`;
const rule = (name: string, file: string) => policy(name, `file: {matchPaths: [{path: ${file}}]}`);
const BOTH = rule('both', SECRET);

let belay: Belay;
let shell: Shell;

beforeAll(async () => {
  rmSync(T, { recursive: true, force: true });
  mkdirSync(T, { recursive: true });
  mkdirSync(`${T}/many`);
  for (const name of ['secret', 'free', 'other', 'flood']) writeFileSync(join(T, name), '');
  makeCgroup(path);
  belay = await Belay.start({ workloads: WORKLOADS });
  shell = inCgroup(path);
  await belay.enforce(BOTH);
});

afterAll(async () => {
  await shell.close();
  await removeCgroup(path);
  await removeCgroup(coming);
  expect(await belay.stop()).toBe(0);
});

const attached = () =>
  JSON.parse(execFileSync('bpftool', ['--json', 'prog', 'show'], { encoding: 'utf8' })).filter(
    (p: { type: string; name: string }) =>
      p.type === 'lsm' || (p.type === 'tracing' && /^(file_open|task_alloc|capable)$/.test(p.name)),
  ).length as number;

describe('policies that change', () => {
  it(`never let what both old and new deny be opened, nor deny what both allow, in ${OPENS} opens and more`, async () => {
    const second = inCgroup(path);
    let going = true;
    let versions = 0;
    const change = (async () => {
      while (going) {
        versions++;
        const noise = Array.from({ length: 1 + (versions % 7) }, (_, i) => `{path: /n/${versions}/${i}}`);
        belay.write(
          'policy.yaml',
          policy('both', `file: {matchPaths: [{path: ${SECRET}}, ${noise.join(', ')}]}`),
        );
        belay.write('second.yaml', rule('second', versions % 2 ? `${T}/other` : SECRET));
        if (versions % 5 === 0) rmSync(join(belay.policyFolder, 'second.yaml'));
        await sleep(5);
      }
    })();
    const changes = () => belay.log.filter((line) => line.msg === 'policies in force').length;
    const batch = OPENS / 20;
    let opens = 0;
    let denied = 0;
    let allowed = 0;
    // a fast machine opens on until the policies have changed often enough to matter
    while (opens < OPENS || changes() <= 10) {
      const [opened, passed] = await Promise.all([
        shell.do('-n', String(batch), 'read', SECRET),
        second.do('-n', String(batch), 'read', FREE),
      ]);
      opens += 2 * batch;
      denied += batch - Number(opened);
      allowed += Number(passed);
    }
    going = false;
    await change;
    // a denial that should not have been says why
    expect(belay.alerts((a) => a.object.path !== SECRET).map(brief)).toEqual([]);
    expect(denied).toBe(opens / 2);
    expect(allowed).toBe(opens / 2);
    await second.close();
  }, 400_000);

  describe('for the worse', () => {
    beforeEach(async () => {
      rmSync(join(belay.policyFolder, 'second.yaml'), { force: true });
      await belay.enforce(BOTH);
    });

    it('are not taken: an invalid one changes nothing, and the log says why and where', async () => {
      const from = belay.log.length;
      belay.write('policy.yaml', BOTH.replace('matchPaths', 'matchPath'));
      const said = await belay.logged(/policy\.yaml:.* error:/, from);
      expect(said.msg).toMatch(/policy\.yaml:6:10: error: .*matchPath/);
      expect(await shell.do('read', SECRET)).toBe('EACCES');
      expect(await shell.do('read', FREE)).toBe('ok');
    });

    it('are not taken: one that explodes changes nothing, and the log names the pattern', async () => {
      const from = belay.log.length;
      const pattern = `/**/*a${'?'.repeat(30)}`;
      belay.write(
        'explodes.yaml',
        policy('explodes', `file:\n  matchPatterns:\n  - {pattern: "${pattern}"}`),
      );
      const said = await belay.logged(/explodes\.yaml:.* error:/, from);
      expect(said.msg).toContain('explodes.yaml:8:');
      expect(said.msg).toContain(pattern);
      expect(await shell.do('read', SECRET)).toBe('EACCES');
      expect(await shell.do('read', FREE)).toBe('ok');
      rmSync(join(belay.policyFolder, 'explodes.yaml'));
    });

    it('are not taken: without their directory all stay in force, and it may come back', async () => {
      const from = belay.log.length;
      renameSync(belay.policyFolder, `${belay.policyFolder}.away`);
      await belay.logged(/its policies stay in force/, from);
      expect(await shell.do('read', SECRET)).toBe('EACCES');
      mkdirSync(`${belay.policyFolder}.new`);
      writeFileSync(join(`${belay.policyFolder}.new`, 'policy.yaml'), rule('both', FREE));
      const back = belay.log.length;
      renameSync(`${belay.policyFolder}.new`, belay.policyFolder);
      await belay.logged('policies in force', back);
      expect(await shell.do('read', SECRET)).toBe('ok');
      expect(await shell.do('read', FREE)).toBe('EACCES');
    });

    it('end when their file is removed', async () => {
      const from = belay.log.length;
      rmSync(join(belay.policyFolder, 'policy.yaml'));
      await belay.logged('policies in force', from);
      expect(await shell.do('read', SECRET)).toBe('ok');
    });
  });
});

describe('cgroups', () => {
  beforeAll(() => belay.enforce(BOTH));

  it('that come again and again: the first thing that the first process does there is judged', async () => {
    for (let i = 0; i < 40; i++) {
      mkdirSync(coming);
      const said = execFileSync(ACT, ['-cgroup', `${coming}/cgroup.procs`, '-become', 'read', SECRET], {
        encoding: 'utf8',
      });
      expect(said).toBe('EACCES\n');
      await eventually('it is empty', () =>
        readFileSync(`${coming}/cgroup.events`, 'utf8').includes('populated 0') ? true : undefined,
      );
      rmdirSync(coming);
    }
  });

  it('that come again and again do not leave all of their mounts behind', async () => {
    const homes = (): number =>
      JSON.parse(execFileSync('bpftool', ['-j', 'map', 'dump', 'name', 'homes'], { encoding: 'utf8' }))
        .length;
    const before = homes();
    for (let i = 0; i < 60; i++) {
      makeCgroup(coming);
      const words = ['-m', ACT, '-cgroup', `${coming}/cgroup.procs`, '-become', 'read', SECRET];
      expect(execFileSync('unshare', words, { encoding: 'utf8' })).toBe('EACCES\n');
      await removeCgroup(coming);
    }
    await eventually('mounts that are gone are forgotten', () => homes() < before + 40 || undefined);
  });

  it('below a workload’s are the workload’s', async () => {
    const nested = makeCgroup(join(makeCgroup(join(path, 'nested')), 'deeper'));
    const inside = inCgroup(nested);
    expect(await inside.do('read', SECRET)).toBe('EACCES');
    expect(await inside.do('read', FREE)).toBe('ok');
    await inside.close();
    await removeCgroup(join(path, 'nested'));
  });

  it('that a process leaves stay with it, and with its children', async () => {
    const leaving = inCgroup(path);
    expect(await leaving.run('echo $$ > /sys/fs/cgroup/cgroup.procs; cat /proc/self/cgroup')).toBe('0::/');
    expect(await leaving.do('read', SECRET)).toBe('EACCES');
    await leaving.close();
  });

  it('that are nobody’s are not judged', async () => {
    const outside = new Shell('/bin/sh', []);
    expect(await outside.do('read', SECRET)).toBe('ok');
    await outside.close();
  });

  it('that hold processes before they are a workload’s: those are judged from then on', async () => {
    const early = makeCgroup(cgroup('early'));
    const inside = inCgroup(early);
    expect(await inside.do('read', SECRET)).toBe('ok');
    const from = belay.log.length;
    belay.writeWorkloads([...WORKLOADS, workload('early', early)]);
    await belay.logged('workloads in force', from);
    expect(await inside.do('read', SECRET)).toBe('EACCES');
    const back = belay.log.length;
    belay.writeWorkloads(WORKLOADS);
    await belay.logged('workloads in force', back);
    expect(await inside.do('read', SECRET)).toBe('ok');
    await inside.close();
    await removeCgroup(early);
  });
});

describe('events', () => {
  const total = (alerts: readonly AlertRecord[]) => alerts.reduce((sum, a) => sum + Number(a.count), 0);
  const lost = (from: number) =>
    belay
      .records()
      .slice(from)
      .reduce((sum, r) => sum + (r.type === 'gap' ? Number(r.lost) : 0), 0);

  it('are told by the policy that denied, though another denied the same within the second', async () => {
    const before = belay.records().length;
    for (const name of ['before', 'after']) {
      await belay.enforce(rule(name, SECRET));
      expect(await shell.do('read', SECRET)).toBe('EACCES');
    }
    for (const name of ['before', 'after'])
      await belay.alert((alert) => alert.policy === name && alert.object.path === SECRET, before);
  });

  it('are counted exactly: as many as were denied', async () => {
    await belay.enforce(rule('count', `${T}/other`));
    const from = belay.records().length;
    expect(await shell.do('-n', '12345', 'read', `${T}/other`)).toBe('0');
    const counted = () => total(belay.alerts((a) => a.object.path === `${T}/other`, from)) + lost(from);
    await eventually('all are told', () => (counted() >= 12345 ? true : undefined));
    await sleep(2500);
    expect(counted()).toBe(12345);
  });

  it('that find no room are counted, and what they tell of is denied all the same', async () => {
    const flood = 30_000;
    await belay.enforce(policy('flood', `file: {matchDirectories: [{dir: ${T}/many/, recursive: true}]}`));
    const from = belay.records().length;
    belay.signal('SIGSTOP');
    // each a name of its own, so that nothing folds
    expect(await shell.do('-n', String(flood), 'create-counted', `${T}/many/`)).toBe('0');
    belay.signal('SIGCONT');
    const counted = () =>
      total(belay.alerts((a) => a.object.path?.startsWith(`${T}/many/`) === true, from)) + lost(from);
    await eventually('all are told or counted', () => (counted() >= flood ? true : undefined), 60_000);
    await sleep(2500);
    expect(counted()).toBe(flood);
    expect(lost(from)).toBeGreaterThan(0);
    expect(belay.records().slice(from)).toContainEqual(
      expect.objectContaining({ type: 'gap', pod: 'updates', ring: 'denials' }),
    );
  });
});

describe('the agent', () => {
  it('that is told to end leaves nothing behind', async () => {
    await belay.enforce(BOTH);
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    expect(attached()).toBeGreaterThan(0);
    expect(await belay.stop()).toBe(0);
    expect(await shell.do('read', SECRET)).toBe('ok');
    await eventually('no program is left', () => (attached() === 0 ? true : undefined), 60_000);
  });

  it('that starts tells by its name of a workload that came and went while no agent was there, and forgets those that are no more', async () => {
    const pin = '/sys/fs/bpf/gone';
    const gone = cgroup('gone');
    const policies = { 'policy.yaml': BOTH };
    const flags = ['--pin', pin];
    const first = await Belay.start({
      workloads: [...WORKLOADS, workload('gone', gone)],
      policies,
      flags,
    });
    await first.stop('SIGKILL');
    mkdirSync(coming);
    expect(
      execFileSync(ACT, ['-cgroup', `${coming}/cgroup.procs`, '-become', 'read', SECRET], {
        encoding: 'utf8',
      }),
    ).toBe('EACCES\n');
    await removeCgroup(coming);
    const next = await Belay.start({ workloads: WORKLOADS, policies, flags });
    await next.alert((a) => a.pod === 'coming' && a.object.path === SECRET);
    makeCgroup(gone);
    const inside = inCgroup(gone);
    expect(await inside.do('read', SECRET)).toBe('ok');
    await inside.close();
    await removeCgroup(gone);
    await next.stop();
    rmSync(pin, { recursive: true });
  });

  it('that is killed leaves enforcement in force where it is pinned, and the next one goes on', async () => {
    const pin = '/sys/fs/bpf/belay';
    const programs = () =>
      JSON.parse(execFileSync('bpftool', ['--json', 'prog', 'show'], { encoding: 'utf8' }))
        .filter((p: { name: string }) => p.name === 'file_open')
        .map((p: { id: number }) => p.id) as number[];
    const options = { workloads: WORKLOADS, policies: { 'policy.yaml': BOTH }, flags: ['--pin', pin] };
    belay = await Belay.start(options);
    const tableBytes = async () => {
      await belay.logged(/in force$/);
      return belay.log.findLast((line) => line.tableBytes !== undefined)?.tableBytes;
    };
    const bytesBefore = await tableBytes();
    expect(bytesBefore).toBeGreaterThan(0);
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    const looping = inCgroup(path);
    const loop = looping.run(`while [ ! -e ${T}/stop ]; do ${ACT} -n 500 read ${SECRET}; done | sort -u`);
    await belay.stop('SIGKILL');
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    expect(await shell.do('read', FREE)).toBe('ok');
    // a process that starts while no agent is there
    const orphan = inCgroup(path);
    expect(await orphan.do('read', SECRET)).toBe('EACCES');
    // which takes the programs as they are, with what the chart gives it
    const before = programs();
    const few = ['--bounding-set', '-all,+bpf,+perfmon,+syslog,+net_admin', '--inh-caps', '-all'];
    belay = await Belay.start({ ...options, by: ['setpriv', ...few] });
    expect(programs()).toEqual(before);
    // and the tables
    expect(await tableBytes()).toBe(bytesBefore);
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    await belay.enforce(rule('both', FREE));
    expect(await orphan.do('read', FREE)).toBe('EACCES');
    await belay.enforce(BOTH);
    expect(await tableBytes()).toBe(bytesBefore);
    writeFileSync(`${T}/stop`, '');
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    expect(await orphan.do('read', FREE)).toBe('ok');
    await loop;
    await looping.close();
    const pid = await orphan.run('echo $$');
    const main = join(PROJECT, 'dist/bin/main.js');
    const tree = execFileSync(process.execPath, [main, 'tree', 'shop/updates', '--json'], {
      encoding: 'utf8',
    });
    expect(tree).toContain(`"pid": ${pid},`);
    await orphan.close();
    expect(await belay.stop()).toBe(0);
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    expect(existsSync(pin)).toBe(true);
    rmSync(pin, { recursive: true });
    expect(readdirSync('/sys/fs/bpf')).not.toContain('belay');
  });
});
