import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { enums } from '../../agent/kernel/abi.js';
import {
  ACT,
  Belay,
  type BelayOptions,
  cgroup,
  eventually,
  inCgroup,
  makeCgroup,
  PROJECT,
  policy,
  removeCgroup,
  type Shell,
  T,
  workload,
} from './harness.js';

/** How often agents are killed and upgraded, and how much is denied in the flood: `make test-stays` says. */
const KILLS = Number(process.env.BELAY_KILLS);
const UPGRADES = Number(process.env.BELAY_UPGRADES);
const FLOOD = Number(process.env.BELAY_FLOOD);

const NOW = join(PROJECT, 'dist/bin/main.js');
const NEXT = join(PROJECT, 'build/next/dist/bin/main.js');
const { SCHEMA } = enums.schema;
const PIN = '/sys/fs/bpf/stays';
const SECRET = `${T}/secret`;
const FREE = `${T}/free`;
const STOP = `${T}/stop`;
const STARTED_S = 300;

const path = cgroup('stays');
const quiet = cgroup('quiet');
const rule = (file: string) => policy('stays', `file: {matchPaths: [{path: ${file}}]}`);
const options: BelayOptions = {
  workloads: [workload('stays', path), workload('quiet', quiet)],
  policies: { 'policy.yaml': rule(SECRET) },
  flags: ['--pin', PIN],
};

/* Takes too long for every run. */
describe.runIf(process.env.BELAY_KILLS)('what stays', () => {
  let belay: Belay | undefined;
  let shell: Shell;

  beforeAll(async () => {
    rmSync(T, { recursive: true, force: true });
    mkdirSync(join(T, 'many'), { recursive: true });
    for (const name of ['secret', 'free']) writeFileSync(join(T, name), '');
    makeCgroup(path);
    makeCgroup(quiet);
    belay = await Belay.start(options);
    shell = inCgroup(path);
    expect(await shell.do('read', SECRET)).toBe('EACCES');
    const here = belay;
    // by this agent, not by the next
    await eventually('it is told', () => (alerted(here, 0) > 0 ? true : undefined));
  });

  afterEach(async () => {
    writeFileSync(STOP, '');
  });

  afterAll(async () => {
    await belay?.stop();
    await shell.close();
    await removeCgroup(path);
    await removeCgroup(quiet);
    uninstall();
  });

  const uninstall = (pin = PIN) =>
    spawnSync(process.execPath, [NOW, 'uninstall', '--pin', pin], { encoding: 'utf8' });

  /** The next agent cannot adopt them. */
  const unpinPrograms = () => {
    for (const name of readdirSync(`${PIN}/v${SCHEMA}`))
      if (name.startsWith('prog_')) rmSync(`${PIN}/v${SCHEMA}/${name}`);
  };

  const programs = () =>
    JSON.parse(execFileSync('bpftool', ['--json', 'prog', 'show'], { encoding: 'utf8' })).filter(
      (p: { name: string }) => p.name === 'file_open',
    ).length as number;

  /** Tries what is denied, and what is not, over and over, by processes old and new, until told to stop. */
  class Attack {
    readonly #shells: Shell[] = [];
    readonly #results: Promise<string>[] = [];

    static async start(): Promise<Attack> {
      rmSync(STOP, { force: true });
      const attack = new Attack();
      const loop = (command: string) => `while [ ! -e ${STOP} ]; do ${command}; done | sort | uniq -c`;
      for (const command of [
        // a process that lives through it all, as `read` is the shell's own
        `{ read -r _ < ${SECRET}; } 2>/dev/null && echo read || echo denied`,
        `${ACT} -n 100 read ${SECRET}`,
        `${ACT} -n 1000 read ${SECRET}`,
        `sh -c '${ACT} -n 10 read ${FREE}; exit'`,
      ]) {
        const inside = inCgroup(path);
        // agents get to start meanwhile
        await inside.run('renice -n 10 -p $$ > /dev/null');
        attack.#shells.push(inside);
        attack.#results.push(inside.run(loop(command), 24 * 3600_000));
      }
      return attack;
    }

    /** @returns how many denied operations were tried, once it has seen that none succeeded and nothing else failed */
    async stop(): Promise<number> {
      writeFileSync(STOP, '');
      const [builtIn, few, many, free] = (await Promise.all(this.#results)).map((text) => text.split('\n'));
      for (const each of this.#shells) await each.close();
      const counted = (lines: readonly string[], wanted: string) => {
        expect(lines.map((line) => line.trim().split(' ')[1])).toEqual([wanted]);
        return Number(lines[0].trim().split(' ')[0]);
      };
      counted(free, '10');
      return counted(builtIn, 'denied') + 100 * counted(few, '0') + 1000 * counted(many, '0');
    }
  }

  const alerted = (of: Belay, from: number) =>
    of.alerts((a) => a.object.path === SECRET, from).reduce((sum, a) => sum + Number(a.count), 0);
  const lost = (of: Belay, from: number) =>
    of
      .records()
      .slice(from)
      .reduce((sum, r) => sum + (r.type === 'gap' ? Number(r.lost) : 0), 0);

  describe('enforcement that is pinned', () => {
    it('goes on without an agent, and what happened meanwhile is told on return, with names and exactly', async () => {
      await belay?.stop('SIGKILL');
      expect(await shell.do('-n', '1234', 'read', SECRET)).toBe('0');
      expect(await shell.do('read', FREE)).toBe('ok');
      belay = await Belay.start({ ...options, folder: belay?.folder });
      const here = belay;
      await eventually('all is told', () => (alerted(here, 0) + lost(here, 0) >= 1234 ? true : undefined));
      await sleep(2500);
      expect(alerted(belay, 0) + lost(belay, 0)).toBe(1234);
      expect(belay.alerts((a) => a.object.path === SECRET)[0]).toMatchObject({
        pod: 'stays',
        policy: 'stays',
      });
    });

    it(
      `lets nothing through in ${KILLS} kills of the agent under attack, at any moment of its life`,
      async () => {
        const attack = await Attack.start();
        const timed = async () => {
          await belay?.stop('SIGKILL');
          const start = performance.now();
          belay = await Belay.start(options);
          return performance.now() - start;
        };
        const adopting = await timed();
        unpinPrograms();
        const loading = await timed();
        for (let i = 0; i < KILLS; i++) {
          await belay?.stop('SIGKILL');
          const loads = i % 50 === 0;
          if (loads) unpinPrograms();
          belay = Belay.spawn(options);
          await sleep(Math.random() * 1.1 * (loads ? loading : adopting));
        }
        await belay?.stop('SIGKILL');
        belay = await Belay.start(options);
        const tried = await attack.stop();
        expect(tried).toBeGreaterThan(0);
        expect(await shell.do('read', SECRET)).toBe('EACCES');
        console.log(`${KILLS} kills, ${tried} denied operations tried, none succeeded`);
      },
      24 * 3600_000,
    );

    it('is the same with an agent that is stopped', async () => {
      belay?.signal('SIGSTOP');
      expect(await shell.do('-n', '1000', 'read', SECRET)).toBe('0');
      expect(await shell.do('read', FREE)).toBe('ok');
      belay?.signal('SIGCONT');
    });

    it(
      `denies and counts each of ${FLOOD} operations in a flood, while others’ alerts are told`,
      async () => {
        const here = belay as Belay;
        await here.enforce(
          policy(
            'stays',
            `file: {matchPaths: [{path: ${SECRET}}], matchDirectories: [{dir: ${T}/many/, recursive: true}]}`,
          ),
        );
        here.take();
        const sum = { flood: 0, others: 0, othersLost: 0 };
        const look = () => {
          for (const r of here.take()) {
            if (r.type === 'alert' && r.pod === 'quiet') sum.others += Number(r.count);
            else if (r.type === 'alert' && r.object.path?.startsWith(`${T}/many/`))
              sum.flood += Number(r.count);
            else if (r.type === 'gap' && r.pod === 'quiet') sum.othersLost += Number(r.lost);
            else if (r.type === 'gap' && r.pod === 'stays') sum.flood += Number(r.lost);
          }
        };
        const workers = 2;
        const flood = Promise.all(
          Array.from({ length: workers }, async () => {
            const inside = inCgroup(path);
            // each a name of its own, so that nothing folds
            const passed = await inside.run(
              `${ACT} -n ${FLOOD / workers} create-counted ${T}/many/`,
              24 * 3600_000,
            );
            await inside.close();
            return passed;
          }),
        );
        let flooding = true;
        flood.finally(() => {
          flooding = false;
        });
        const other = inCgroup(quiet);
        let tried = 0;
        do {
          expect(await other.do('read', SECRET)).toBe('EACCES');
          tried++;
          await eventually(`alert ${tried} of the other workload`, () => {
            look();
            return sum.others + sum.othersLost >= tried ? true : undefined;
          });
          await sleep(2000);
        } while (flooding);
        expect(await flood).toEqual(Array(workers).fill('0'));
        await eventually('all are told or counted', () => {
          look();
          return sum.flood >= FLOOD ? true : undefined;
        });
        await sleep(2500);
        look();
        expect(sum).toEqual({ flood: FLOOD, others: tried, othersLost: 0 });
        console.log(`${FLOOD} denied and counted, ${tried} alerts of another workload told meanwhile`);
        await other.close();
        await here.enforce(rule(SECRET));
      },
      24 * 3600_000,
    );
  });

  describe('a later version', () => {
    /** A build whose schema is this number, with maps of this version's or of the next one's layout. */
    function build(schema: number, main: string): string {
      if (schema === SCHEMA && main === NOW) return NOW;
      const root = `/tmp/build-${schema}`;
      if (existsSync(root)) return join(root, 'dist/bin/main.js');
      const from = join(main, '../../..');
      mkdirSync(root);
      for (const part of ['dist', 'package.json'])
        cpSync(join(from, part), join(root, part), { recursive: true });
      mkdirSync(join(root, 'build'));
      for (const object of ['belay.bpf.o', 'belay-6.1.bpf.o'])
        cpSync(join(from, 'build', object), join(root, 'build', object));
      for (const part of ['native', 'node_modules'])
        execFileSync('ln', ['-s', join(PROJECT, part), join(root, part)]);
      for (const name of readdirSync(join(root, 'dist/bin'))) {
        const file = join(root, 'dist/bin', name);
        const text = readFileSync(file, 'utf8');
        writeFileSync(file, text.replace(/"?SCHEMA"?: \d+/, `SCHEMA: ${schema}`));
      }
      return join(root, 'dist/bin/main.js');
    }

    it(
      `takes over in ${UPGRADES} upgrades under attack with other maps: nothing gets through, and all is counted`,
      async () => {
        const attack = await Attack.start();
        // a process whose cgroup says nothing of what it is any more
        const moved = inCgroup(path);
        await moved.run('echo $$ > /sys/fs/cgroup/cgroup.procs');
        for (let i = 0; i < UPGRADES; i++) {
          const main = build(SCHEMA + 1 + i, i % 2 === 0 ? NEXT : NOW);
          await belay?.stop('SIGKILL');
          belay = await Belay.start({ ...options, main });
          await belay.logged(/^took over from an earlier version/, 0, STARTED_S * 1000);
          expect(readdirSync(PIN)).toEqual([`v${SCHEMA + 1 + i}`]);
          expect(
            await moved.run(
              `[ -r ${FREE} ] && { read -r _ < ${SECRET}; } 2>/dev/null && echo read || echo denied`,
            ),
          ).toBe('denied');
          expect(await moved.do('read', SECRET)).toBe('EACCES');
          expect(await moved.do('read', FREE)).toBe('ok');
        }
        const tried = await attack.stop();
        console.log(`${UPGRADES} upgrades, ${tried} denied operations tried, none succeeded`);
        await moved.close();
        await eventually('one set of programs is left', () => (programs() === 1 ? true : undefined));
      },
      24 * 3600_000,
    );

    it('tells what the version before still had in its rings, exactly', async () => {
      await belay?.stop('SIGKILL');
      expect(await shell.do('-n', '777', 'read', SECRET)).toBe('0');
      belay = await Belay.start({
        ...options,
        main: build(SCHEMA + 1 + UPGRADES, UPGRADES % 2 === 0 ? NEXT : NOW),
      });
      const here = belay;
      await here.logged(/^took over/, 0, STARTED_S * 1000);
      await eventually('all is told', () => (alerted(here, 0) + lost(here, 0) >= 777 ? true : undefined));
      await sleep(2500);
      expect(alerted(here, 0) + lost(here, 0)).toBe(777);
      expect(here.alerts((a) => a.object.path === SECRET)[0]).toMatchObject({ pod: 'stays' });
    });

    it('stays in force when an earlier one is started, which says why', async () => {
      await belay?.stop('SIGKILL');
      const refused = Belay.spawn(options);
      const said = await eventually('it ends', () => (refused.ended ? refused.log.at(-1)?.msg : undefined));
      expect(said).toMatch(
        /a later version of Belay is in force \(schema \d+; this one's is 1\).*belay uninstall --pin/,
      );
      expect(await shell.do('read', SECRET)).toBe('EACCES');
    });
  });

  describe('belay uninstall', () => {
    it('touches nothing where something else is', () => {
      mkdirSync('/tmp/other', { recursive: true });
      writeFileSync('/tmp/other/file', '');
      expect(uninstall('/tmp/other')).toMatchObject({
        status: 1,
        stderr: expect.stringContaining("not Belay's"),
      });
      expect(existsSync('/tmp/other/file')).toBe(true);
    });

    it('takes everything off', async () => {
      expect(programs()).toBe(1);
      expect(uninstall()).toMatchObject({
        status: 0,
        stdout: expect.stringMatching(/^\d+ programs taken off/),
      });
      expect(existsSync(PIN)).toBe(false);
      await eventually('no program is left', () => (programs() === 0 ? true : undefined));
      expect(await shell.do('read', SECRET)).toBe('ok');
      expect(uninstall()).toMatchObject({ status: 0, stdout: `nothing is in force below ${PIN}\n` });
    });
  });
});
