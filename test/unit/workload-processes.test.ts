import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadAddon } from '../../agent/kernel/addon.js';
import { processesIn } from '../../agent/workload/processes.js';

it('processes are read with all of their names, also from cgroups below, and without those that have ended', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'belay-processes-'));
  const before = BigInt(Date.now()) * 1_000_000n;
  const child = spawn(
    '/bin/sh',
    ['-c', 'printf "a) b" > /proc/self/comm 2>/dev/null; read _', 'the name', ''],
    {
      stdio: ['pipe', 'ignore', 'ignore'],
    },
  );
  await new Promise((done) => child.once('spawn', done));
  try {
    mkdirSync(join(folder, 'below'));
    // those of others' namespaces are 0, and no process has the largest number
    writeFileSync(join(folder, 'cgroup.procs'), `0\n4194304\n`);
    writeFileSync(join(folder, 'below/cgroup.procs'), `${child.pid}\n`);
    const clock = loadAddon().clockOffset();
    const read = () => processesIn(folder, clock);
    await expect.poll(() => read()[0]?.comm).toBe('a) b');
    const [found, ...others] = read();
    expect(others).toEqual([]);
    expect(found).toMatchObject({
      ...{ pid: child.pid, uid: process.getuid?.(), parent: { pid: process.pid } },
      arguments: ['/bin/sh', '-c', expect.stringContaining('read'), 'the name', ''],
    });
    // to the kernel's tick
    expect(Number(BigInt(found.started) - before) / 1e9).toBeGreaterThan(-1);
    expect(Number(BigInt(found.started) - before) / 1e9).toBeLessThan(10);
  } finally {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  }
  expect(processesIn(folder, 0n)).toEqual([]);
});
