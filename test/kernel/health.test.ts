import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Belay, cgroup, makeCgroup, policy, removeCgroup, T, workload } from './harness.js';

const BPFFS = '/sys/fs/bpf';
const PIN = `${BPFFS}/health`;
const ADDRESS = '127.0.0.1:9464';
const path = cgroup('health');

let belay: Belay;

beforeAll(async () => {
  mkdirSync(BPFFS, { recursive: true });
  if (!readFileSync('/proc/mounts', 'utf8').includes(` ${BPFFS} bpf `))
    execFileSync('mount', ['-t', 'bpf', 'bpf', BPFFS]);
  makeCgroup(path);
  belay = await Belay.start({
    workloads: [workload('web', path)],
    policies: { 'policy.yaml': policy('health', `file: {matchPaths: [{path: ${T}/secret}]}`) },
    flags: ['--pin', PIN, '--metrics-address', ADDRESS],
  });
});

afterAll(async () => {
  await belay?.stop();
  await removeCgroup(path);
  execFileSync('rm', ['-rf', PIN]);
});

const bpftool = (...args: readonly string[]) =>
  execFileSync('bpftool', ['-j', ...args], { encoding: 'utf8' });

describe('/healthz and /readyz', () => {
  const ask = async (path: string) => {
    const response = await fetch(`http://${ADDRESS}${path}`);
    return { status: response.status, text: await response.text() };
  };

  it('are well while all is', async () => {
    for (const path of ['/healthz', '/readyz'])
      expect(await ask(path)).toEqual({ status: 200, text: 'ok\n' });
  });

  it('are not when other tables are in force than were put there', async () => {
    const maps = JSON.parse(bpftool('map', 'show'));
    const map = maps.find((m: { name: string }) => m.name === 'workloads');
    const bytes = (value: number, length: number) => [value, ...Array(length - 1).fill(0)].map(String);
    const value = bytes(0, map.bytes_value);
    bpftool('map', 'update', 'id', String(map.id), 'key', ...bytes(1, 4), 'value', ...value);
    for (const path of ['/healthz', '/readyz'])
      expect(await ask(path)).toEqual({
        status: 503,
        text: 'the kernel does not use the policies that were put in force for 1 workload\n',
      });
    expect(await belay.logged('the kernel does not use the policies that were put in force')).toMatchObject({
      workloads: 'shop/web/web',
    });
    await belay.enforce(policy('health', 'network: {matchDNSQueries: [{domain: evil.example}]}'));
    expect(await ask('/readyz')).toEqual({ status: 200, text: 'ok\n' });
  });

  it('are not when somebody has taken a program off', async () => {
    const links = JSON.parse(bpftool('link', 'show'));
    const link = links.find((l: { type: string }) => l.type === 'cgroup');
    bpftool('link', 'detach', 'id', String(link.id));
    for (const path of ['/healthz', '/readyz'])
      expect(await ask(path)).toEqual({ status: 503, text: 'programs are not attached: query_leaves\n' });
  });

  it('are not when a program would not outlive the agent any more', async () => {
    const [version] = readdirSync(PIN);
    unlinkSync(join(PIN, version, 'link_file_open'));
    for (const path of ['/healthz', '/readyz'])
      expect(await ask(path)).toMatchObject({
        status: 503,
        text: expect.stringContaining('file_open (its pin is gone)'),
      });
  });
});
