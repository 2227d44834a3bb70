import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withoutSecrets } from '../../agent/cli/sysdump.js';
import { draw, type Look, ratesOf } from '../../agent/cli/top.js';
import { draw as drawTree, treeOf } from '../../agent/cli/tree.js';
import { EventLog } from '../../agent/event/log.js';
import type { ObjectRecord, ProcessRecord } from '../../agent/event/record.js';
import { loadAddon } from '../../agent/kernel/addon.js';
import { sinceOf } from '../../agent/serve/filter.js';
import { type Serving, serve } from '../../agent/serve/server.js';
import { recordedLog } from '../api/harness.js';
import { logOf, STEERED, STEERING } from './records.js';
import { NODE } from './serve-client.js';
import { alertRecord, execOf } from './serve-records.js';

const MAIN = resolve(import.meta.dirname, '../../dist/bin/main.js');

let folder: string;
let socket: string;
let events: EventLog;
let serving: Serving;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'belay-cli-'));
  socket = join(folder, 'belay.sock');
  events = new EventLog();
  events.append(alertRecord({ sequence: '11', message: 'one', object: { path: '/tmp/\x1b[31mred\n' } }));
  events.append(alertRecord({ sequence: '12', message: 'two', namespace: 'bank', verdict: 'Passed' }));
  events.append(execOf({ sequence: '13' }));
  const { log } = recordedLog();
  serving = await serve({ node: NODE, events, log, socket: { path: socket, peer: loadAddon().peer } });
});
afterAll(async () => {
  await serving.close();
  rmSync(folder, { recursive: true });
});

/** A program is told of whose name would steer a terminal. */
function steer(sequence: string): void {
  const process = { ...(execOf({}).process as ProcessRecord), program: STEERING, arguments: [] };
  events.append(execOf({ sequence, pod: 'steering', process }));
}

/** Runs `belay …`, as a shell does. */
function belay(...args: string[]) {
  const env = { ...process.env, BELAY_SOCKET: socket, NO_COLOR: '1' };
  const child = spawn(process.execPath, [MAIN, ...args], {
    env,
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { out: '', err: '' };
  child.stdout.on('data', (chunk) => {
    said.out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    said.err += chunk;
  });
  const status = new Promise<number | null>((done) => child.on('close', done));
  return { said, child, ended: status.then((code) => ({ status: code, ...said })) };
}

describe('belay events', () => {
  it('shows what the agent remembers, and nothing that would speak to the terminal', async () => {
    const { status, out } = await belay('events').ended;
    expect(status).toBe(0);
    const lines = out.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/Denied .*shop\/web-1\/nginx .*\/tmp\/\\x1b\[31mred\\x0a .*no-shells: process/);
    expect(lines[2]).toMatch(/started .*bash -c id/);
  });

  it('filters, picks columns, and gives records as they are', async () => {
    const shown = await belay('events', '--verdict', 'denied', '--columns', 'message,verdict', '-n', 'shop')
      .ended;
    expect(shown.out).toMatch(/^one +Denied\n$/);
    const json = await belay('events', '--json', '--after', '11', '--type', 'alert').ended;
    expect(JSON.parse(json.out)).toEqual(
      JSON.parse(
        JSON.stringify(alertRecord({ sequence: '12', message: 'two', namespace: 'bank', verdict: 'Passed' })),
      ),
    );
  });

  it('follows', async () => {
    const { said, child, ended } = belay('events', '--follow', '--json', '-n', 'live', '-n', 'bank');
    await expect.poll(() => said.out, { timeout: 30_000 }).toContain('"sequence":"12"');
    events.append(alertRecord({ sequence: '14', namespace: 'live' }));
    await expect.poll(() => said.out, { timeout: 30_000 }).toContain('"sequence":"14"');
    child.kill();
    await ended;
    await expect.poll(() => events.readers, { timeout: 30_000 }).toBe(0);
  });

  it('reads a file as it reads an agent', () => {
    const file = join(folder, 'events.jsonl');
    const records = [
      alertRecord({ sequence: '1', severity: 2 }),
      alertRecord({ sequence: '2', severity: 9 }),
    ];
    writeFileSync(file, `${records.map((record) => JSON.stringify(record)).join('\n')}\nnonsense\n`);
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [MAIN, 'events', file, '--severity', '5', '--json'],
      { encoding: 'utf8' },
    );
    expect(JSON.parse(stdout).sequence).toBe('2');
    expect([status, stderr]).toEqual([1, 'belay events: 1 line is no belay.v1 record (line 3)\n']);
  });

  it('follows a file that is rotated, cut off or emptied', async () => {
    const file = join(folder, 'rotated.jsonl');
    const line = (sequence: string) => `${JSON.stringify(alertRecord({ sequence }))}\n`;
    writeFileSync(file, line('1'));
    const { said, child, ended } = belay('events', '--follow', '--json', file);
    const told = () => said.out.match(/"sequence":"\d+"/g)?.map((each) => each.replace(/\D/g, ''));
    const poll = { timeout: 30_000 };
    await expect.poll(told, poll).toEqual(['1']);
    renameSync(file, `${file}.1`);
    appendFileSync(`${file}.1`, line('2'));
    await expect.poll(told, poll).toEqual(['1', '2']);
    // whoever rotates makes the file, and the writer goes on to it later
    writeFileSync(file, '');
    appendFileSync(`${file}.1`, `${line('3')}{"cut`);
    await expect.poll(told, poll).toEqual(['1', '2', '3']);
    writeFileSync(file, `${line('4')}${line('5')}`);
    await expect.poll(told, poll).toEqual(['1', '2', '3', '4', '5']);
    const { size } = statSync(file);
    appendFileSync(file, '{"cut');
    await setTimeout(1000);
    truncateSync(file, size);
    await setTimeout(1000);
    appendFileSync(file, line('6'));
    await expect.poll(told, poll).toEqual(['1', '2', '3', '4', '5', '6']);
    writeFileSync(file, line('7'));
    await expect.poll(told, poll).toEqual(['1', '2', '3', '4', '5', '6', '7']);
    child.kill();
    await ended;
  });

  it('tells the good lines of a file around those that are broken', () => {
    const whole = alertRecord({ sequence: '1' });
    const broken = [
      { ...whole, object: undefined },
      { ...whole, tags: undefined },
      { ...whole, sequence: undefined },
      { ...whole, time: 'soon' },
      { ...whole, type: 'later' },
      { ...whole, process: null },
      null,
      'text',
    ];
    const lines = [whole, ...broken, whole].map((each) => JSON.stringify(each));
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'events', '-'], {
      encoding: 'utf8',
      input: `${lines.join('\n')}\n`,
    });
    const told = stdout.trimEnd().split('\n');
    expect(told).toHaveLength(2);
    expect(told[1]).toBe(told[0]);
    expect([status, stderr]).toEqual([
      1,
      'belay events: 8 lines are no belay.v1 records (line 2 the first)\n',
    ]);
  });

  it('says what is wrong', async () => {
    const nobody = await belay('events', '--socket', join(folder, 'nobody.sock')).ended;
    expect([nobody.status, nobody.out]).toEqual([1, '']);
    expect(nobody.err).toMatch(/no agent answers at .*nobody\.sock/);
    const missing = await belay('events', 'missing.jsonl').ended;
    expect([missing.status, missing.out]).toEqual([1, '']);
    expect(missing.err).toMatch(/^belay events: missing\.jsonl: there is no such file .*\n$/);
    expect((await belay('events', '--table', folder).ended).err).toMatch(
      /^belay events: .*: it is a directory.*\n$/,
    );
    expect((await belay('events', '--verdict', 'refused').ended).err).toContain('there are Passed, Denied');
    for (const column of ['colour', 'toString'])
      expect((await belay('events', '--columns', `time, ${column}`).ended).err).toContain(
        `no column "${column}"; there are time, node, verdict`,
      );
  });

  it('knows spans and times', () => {
    const now = Date.parse('2026-01-31T08:00:00Z');
    expect(sinceOf('10m', now)).toBe(BigInt(now - 600_000) * 1_000_000n);
    expect(sinceOf('2026-01-31T07:00:00Z', now)).toBe(BigInt(now - 3_600_000) * 1_000_000n);
    expect(sinceOf('1769846400000000000', now)).toBe(BigInt(now) * 1_000_000n);
    expect(sinceOf('yesterday', now)).toBeUndefined();
  });
});

describe('belay top', () => {
  const [view] = NODE.workloads();
  const look = (at: number, denied: string, runs: string, nanoseconds: string, rule: number): Look => ({
    at,
    workloads: [
      { ...view, denied },
      { ...view, name: 'idle' },
    ],
    costs: { ...NODE.costs(true), programs: [{ name: 'file_open', runs, nanoseconds }] },
    rules: new Map([['no-shells: process', rule]]),
  });

  it('gives rates, the busiest first, and leaves out what was idle', () => {
    const rates = ratesOf(look(1000, '10', '1000', '100000', 5), look(3000, '30', '3000', '500000', 25));
    expect(rates).toEqual({
      workloads: [{ workload: 'shop/web-1/nginx', denied: 10, reported: 0, lost: 0 }],
      rules: [{ rule: 'no-shells: process', events: 10 }],
      hooks: [{ hook: 'file_open', runs: 1000, nanoseconds: 200, share: 0.0002 }],
      unmeasured: '',
    });
    expect(draw(rates, 5)).toMatch(/file_open +1000 +200 +0\.020/);
    expect(draw({ ...rates, hooks: [], unmeasured: 'EPERM' }, 5)).toContain('runs are not counted: EPERM');
  });

  it('counts what comes from the agent', async () => {
    const { said, ended } = belay('top', '--json', '--interval', '1', '--count', '6');
    // from the first look on, it has something to compare with
    await expect.poll(() => said.out, { timeout: 60_000 }).toContain('\n');
    for (let n = 100; n < 140; n++) events.append(alertRecord({ sequence: String(n), count: '5' }));
    expect(await ended).toMatchObject({ status: 0, err: '' });
    const looks = said.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(looks).toHaveLength(6);
    const total = looks.flatMap(({ rules }) => rules).reduce((sum, { events }) => sum + events, 0);
    // about one look a second
    expect(total).toBeGreaterThan(50);
    expect(total).toBeLessThanOrEqual(200);
  });
});

describe('belay tree', () => {
  const acting = (pid: number, program: string, parent: number, parentProgram: string): ProcessRecord => ({
    ...{ execId: String(pid), pid, pidInside: pid, tid: pid, uid: 0, gid: 0, cwd: '/' },
    ...{ capabilities: '0', namespaces: { mnt: 1, pid: 1, net: 1, user: 1 } },
    ...{ program, comm: 'x', arguments: [program], parent: { pid: parent, program: parentProgram } },
  });

  it('hangs programs on their parents, with what they did', () => {
    const tree = treeOf([
      execOf({ process: acting(10, '/nginx', 1, '/runc') }),
      execOf({ process: acting(11, '/bin/sh', 10, '/nginx') }),
      alertRecord({ process: acting(12, '/bin/id', 11, '/bin/sh'), count: '3' }),
      alertRecord({ process: acting(11, '/bin/sh', 10, '/nginx'), verdict: 'Passed' }),
    ]);
    expect(tree).toMatchObject([
      {
        program: '/runc',
        children: [
          {
            program: '/nginx',
            children: [{ program: '/bin/sh', reported: 1, children: [{ program: '/bin/id', denied: 3 }] }],
          },
        ],
      },
    ]);
  });

  it('keeps the children of a process that runs another program', () => {
    const tree = treeOf([
      execOf({ process: acting(10, '/bin/sh', 1, '/runc') }),
      execOf({ process: acting(11, '/bin/sleep', 10, '/bin/sh') }),
      execOf({ process: acting(10, '/nginx', 1, '/runc') }),
    ]);
    expect(tree[0].children).toMatchObject([{ program: '/nginx', children: [{ program: '/bin/sleep' }] }]);
  });

  const exit = (process: ProcessRecord, object: ObjectRecord, time = '9') =>
    logOf({ class: 'Process', operation: 'exit', process, object, time });
  const fork = (process: ProcessRecord, pid: number) =>
    logOf({ class: 'Process', operation: 'fork', process, object: { pid, pidInside: pid } });

  it('lets a process that has ended keep what is its own, whoever has its number then', () => {
    const first = acting(11, '/bin/sh', 10, '/nginx');
    const second = { ...first, execId: 'later', program: '/bin/false' };
    const tree = treeOf([
      execOf({ process: acting(10, '/nginx', 1, '/runc') }),
      execOf({ process: first }),
      execOf({ process: acting(12, '/bin/id', 11, '/bin/sh') }),
      alertRecord({ process: first }),
      exit(first, { exitCode: 0 }),
      execOf({ process: second }),
      // told of late
      alertRecord({ process: first }),
      exit(second, { exitCode: 1 }, '10'),
    ]);
    expect(tree[0].children[0].children).toMatchObject([
      { program: '/bin/sh', ended: '9', exitCode: 0, denied: 2, children: [{ program: '/bin/id' }] },
      { program: '/bin/false', ended: '10', exitCode: 1, denied: 0, children: [] },
    ]);
  });

  it('has what runs since before the agent, and what is told of a process before what is read of it', () => {
    const running = (pid: number, above: number, words: string[], started = '5') => ({
      ...{ pid, comm: 'comm', arguments: words, uid: 33, started },
      parent: { pid: above, program: 'shim' },
    });
    const tree = treeOf(
      [
        execOf({ process: acting(11, '/bin/sh', 10, '/nginx') }),
        fork(acting(11, '/bin/sh', 10, '/nginx'), 12),
        exit(
          { ...acting(12, '/bin/sh', 11, '/bin/sh'), execId: acting(11, '/bin/sh', 10, '/nginx').execId },
          {},
        ),
      ],
      // in any order; the number of one that ended is another's now
      [
        running(12, 10, ['worker']),
        running(11, 10, ['old']),
        running(10, 1, ['nginx', '-g']),
        running(13, 12, []),
      ],
    );
    expect(drawTree(tree)).toEqual([
      '└─ 1 shim',
      '   └─ 10 nginx -g uid 33',
      '      ├─ 11 /bin/sh uid 0',
      '      │  └─ 12 /bin/sh uid 0 ended',
      '      └─ 12 worker uid 33',
      '         └─ 13 comm uid 33',
    ]);
  });

  it('has the processes that a program forks, which may then run another', () => {
    const shell = acting(10, '/bin/sh', 1, '/runc');
    const killed = { ...shell, pid: 12, parent: { pid: 10, program: '/bin/sh' } };
    const tree = treeOf([
      execOf({ process: shell }),
      ...[11, 12, 13].map((pid) => fork(shell, pid)),
      execOf({ process: acting(11, '/bin/id', 10, '/bin/sh') }),
      exit(killed, { exitSignal: 9 }),
      exit(shell, { exitCode: 3 }),
      // its parent has ended before
      execOf({ process: acting(13, '/bin/late', 1, '/runc') }),
    ]);
    expect(drawTree(tree)).toEqual([
      '└─ 1 /runc',
      '   └─ 10 /bin/sh uid 0 ended with code 3',
      '      ├─ 11 /bin/id uid 0',
      '      ├─ 12 /bin/sh uid 0 ended by signal 9',
      '      └─ 13 /bin/late uid 0',
    ]);
  });

  it('takes nobody for a parent who has its number by a fork that came later, nor for its own', () => {
    const forked = treeOf([
      execOf({ process: acting(11, '/bin/id', 10, '/bin/sh') }),
      fork(acting(20, '/cron', 1, '/runc'), 10),
    ]);
    expect(drawTree(forked)).toEqual([
      ...['├─ 10 /bin/sh', '│  └─ 11 /bin/id uid 0'],
      ...['└─ 1 /runc', '   └─ 20 /cron uid 0', '      └─ 10 /cron uid 0'],
    ]);
    const round = treeOf([
      execOf({ process: acting(11, '/bin/id', 10, '/bin/sh') }),
      execOf({ process: acting(10, '/cron', 11, '/bin/id') }),
    ]);
    expect(drawTree(round)).toHaveLength(3);
  });

  it('is drawn from what the agent remembers and what runs, and says when that is nothing', async () => {
    const { out } = await belay('tree', 'shop/web-1').ended;
    expect(out).toMatch(
      /├─ 4000 \/usr\/sbin\/nginx\n│ {2}└─ 4321 .*denied\n└─ 60 .*\n {3}└─ 70 nginx -g daemon off; uid 33\n/,
    );
    expect((await belay('tree', 'shop/none').ended).err).toContain('nothing is known of shop/none');
    expect((await belay('tree', 'web').ended).err).toContain('write namespace/pod');
  });
});

it.each([
  ['events', ['--json', '--pod', 'steering']],
  ['tree', ['--json', 'shop/steering']],
])('belay %s gives JSON that steers no terminal', async (command, args) => {
  steer('200');
  const { status, out } = await belay(command, ...args).ended;
  expect(status).toBe(0);
  expect(out).toContain(STEERED);
  expect(out).not.toMatch(/[\x7f-\x9f\u2028\u202e]/);
});

describe('belay uninstall', () => {
  it('says where there is no directory, and can be no pins', async () => {
    const { status, out, err } = await belay('uninstall', '--pin', join(folder, 'pins')).ended;
    expect([status, out]).toEqual([1, '']);
    expect(err).toMatch(
      /^belay uninstall: there is no directory .*\/pins, and there can be no pins there: .*\n$/,
    );
  });
});

describe('belay sysdump', () => {
  it('is an archive that only its owner reads, with everything that could be had', async () => {
    const config = join(folder, 'config.yaml');
    writeFileSync(
      config,
      'kubernetes: true\ntlsKey: /etc/belay-tls/tls.key\nhook: https://ann:hunter2@siem/x\n',
    );
    writeFileSync(join(folder, 'agent.log'), '{"msg":"one"}\n');
    steer('201');
    const { status, out, err } = await belay(
      ...['sysdump', 'dump.tar.gz', '--config', config, '--log', 'agent.log'],
    ).ended;
    expect([status, err, out]).toEqual([0, '', 'dump.tar.gz\n']);
    expect(statSync(join(folder, 'dump.tar.gz')).mode & 0o777).toBe(0o600);
    spawnSync('tar', ['xzf', 'dump.tar.gz'], { cwd: folder });
    const read = (name: string) =>
      spawnSync('cat', [join(folder, 'belay-sysdump', name)], { encoding: 'utf8' }).stdout;
    expect(JSON.parse(read('workloads.json'))).toMatchObject({ workloads: [{ name: 'web-1', denied: '7' }] });
    expect(JSON.parse(read('costs.json'))).toMatchObject({ maps: [{ name: 'arena' }] });
    expect(read('events.jsonl')).toContain('"sequence":"11"');
    expect(read('events.jsonl')).toContain(STEERED);
    expect(read('agent.log')).toBe('{"msg":"one"}\n');
    const probed = JSON.parse(read('probe.json')) as { family: string; rules: string }[];
    expect(probed.length).toBeGreaterThan(5);
    for (const { family, rules } of probed)
      expect([family, rules]).toEqual([expect.stringMatching(/^\w+$/), expect.stringMatching(/./)]);
    expect(read('config.yaml')).toContain('tlsKey: /etc/belay-tls/tls.key');
    expect(read('config.yaml')).not.toContain('hunter2');
  });

  it('is made without an agent, and says what it lacks', async () => {
    const { status, err } = await belay('sysdump', 'alone.tar.gz', '--socket', join(folder, 'none')).ended;
    expect(status).toBe(0);
    expect(err).toMatch(/^belay sysdump: without health\.json, .*events\.jsonl: no agent answers .*\n$/);
  });

  it('says of a configuration that it cannot read where it is, and nothing of what is in it', async () => {
    writeFileSync(join(folder, 'bad.yaml'), 'sinks:\n- {name: s, token: hunter2: x}\n');
    writeFileSync(join(folder, 'alias.yaml'), 'password: *hunter2\n');
    const without = async (config: string, ...args: string[]) => {
      const { err } = await belay('sysdump', 'bad.tar.gz', '--config', config, ...args).ended;
      const missing = ['xzOf', join(folder, 'bad.tar.gz'), 'belay-sysdump/missing.txt'];
      expect(err).toBe(`belay sysdump: without ${spawnSync('tar', missing, { encoding: 'utf8' }).stdout}`);
      return err;
    };
    expect(await without('bad.yaml')).toMatch(
      /config\.yaml: bad\.yaml:2:\d+: it is not valid YAML; correct it\n$/,
    );
    expect(await without('alias.yaml')).toContain(
      'without config.yaml: alias.yaml:1:1: it is not valid YAML',
    );
    expect(await without('none.yaml', '--log', 'none.yaml')).toBe(
      'belay sysdump: without config.yaml, agent.log: none.yaml: there is no such file or directory; check the path\n',
    );
  });

  it('takes the end of a log, however long it is, and says so', async () => {
    const log = join(folder, 'long.log');
    const lines = Array.from({ length: 110_000 }, (_, n) => `{"level":30,"msg":"line ${n} of the log: ü"}\n`);
    // a hole, which takes no room
    writeFileSync(log, '');
    truncateSync(log, 3 * 2 ** 30);
    appendFileSync(log, `\n${lines.join('')}`);
    const taken = async (path: string) => {
      const { status, err } = await belay('sysdump', 'log.tar.gz', '--log', path).ended;
      expect([status, err]).toEqual([0, '']);
      const args = ['xzOf', join(folder, 'log.tar.gz'), 'belay-sysdump/agent.log'];
      return spawnSync('tar', args, { encoding: 'utf8', maxBuffer: 16 << 20 }).stdout;
    };
    const whole = await taken(log);
    const [told] = whole.split('\n', 1);
    const kept = whole.slice(told.length + 1);
    const bytes = Buffer.byteLength(kept);
    expect((4 << 20) - bytes).toBeGreaterThanOrEqual(0);
    expect((4 << 20) - bytes).toBeLessThan(100);
    expect(told).toBe(`The last 4 MiB of ${log}; ${statSync(log).size - bytes} bytes before are left out.`);
    expect(lines.join('').endsWith(`\n${kept}`)).toBe(true);

    execFileSync('mkfifo', [`${log}.pipe`]);
    spawn('sh', ['-c', `yes line | head -c 9000000 > ${log}.pipe`]);
    expect(await taken(`${log}.pipe`)).toMatch(
      /^The last 4 MiB of .*; 4805\d{3} bytes before are left out\.\nline\n/,
    );
  });

  it('says in a line why it cannot be written', async () => {
    const { status, out, err } = await belay('sysdump', join(folder, 'no/x.tar.gz')).ended;
    expect([status, out]).toEqual([1, '']);
    expect(err).toMatch(/^belay sysdump: .*x\.tar\.gz: there is no directory .*\/no; make it\n$/);
  });

  it('leaves out what could let somebody in', () => {
    const text =
      'sink:\n  password: hunter2\n  apiKey: abc\n  token: def\n  url: kafka://u:p@host/t\ntokenAudience: belay\n';
    const clean = withoutSecrets(text);
    for (const secret of ['hunter2', 'abc', 'def', 'u:p']) expect(clean).not.toContain(secret);
    expect(clean).toContain('tokenAudience: belay');
    expect(clean).toContain('@host/t');
  });

  it('leaves out what of a URL lets somebody in by itself', () => {
    const text = `sinks:
- {type: webhook, url: "https://hooks.example/services/T0/hunter2"}
- {type: webhook, url: "https://hooks.example"}
- {type: otlp, url: "https://ann:hunter2@otlp.example/v1/logs?key=hunter2"}
`;
    expect(withoutSecrets(text).match(/url: .*/g)).toEqual([
      'url: https://hooks.example/(left out)',
      'url: https://hooks.example',
      'url: https://(left out)@otlp.example/v1/logs?(left out)',
    ]);
  });
});
