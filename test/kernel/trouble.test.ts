import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { attachment, PROJECT } from './harness.js';

const MAIN = join(PROJECT, 'dist/bin/main.js');

/** `belay agent` by way of another program, with a folder and a list of workloads that are good. */
function agent(by: readonly string[], options: { workloads?: string } = {}) {
  const folder = mkdtempSync('/tmp/belay-');
  mkdirSync(join(folder, 'policies'));
  writeFileSync(join(folder, 'workloads.yaml'), options.workloads ?? 'workloads: []\n');
  execFileSync('chmod', ['-R', 'a+rX', folder]);
  const [program, ...args] = [
    ...by,
    ...[process.execPath, MAIN, 'agent', '--policies', join(folder, 'policies')],
    ...['--workloads', join(folder, 'workloads.yaml'), '--ready-file', join(folder, 'ready')],
  ];
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout: 180_000, cwd: '/' });
  const said = stderr
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { level: number; msg: string });
  return { status, said, ready: existsSync(join(folder, 'ready')) };
}

/** As nobody; and as root inside of a mount namespace that has been changed. */
const NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
const changed = (script: string) => ['unshare', '-m', 'sh', '-c', `${script} && exec "$@"`, 'sh'];

describe('what the agent cannot work with', () => {
  it.each([
    ['no privileges', NOBODY, /needs root \(or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN\); run as root/],
    [
      'no BPF capability',
      ['setpriv', '--bounding-set', '-all,+syslog', '--inh-caps', '-all'],
      /does not let this process load/,
    ],
    [
      'addresses hidden',
      ['setpriv', '--bounding-set', '-syslog', '--inh-caps', '-syslog'],
      /its rename_lock and mount_lock are .*it needs CAP_SYSLOG, and the sysctl kernel\.kptr_restrict to be below 2/,
    ],
    [
      'no security file system',
      changed('umount /sys/kernel/security'),
      /lsm cannot be read; mount it with: mount -t securityfs/,
    ],
    [
      'no BTF',
      changed('mount -t tmpfs none /sys/kernel/btf'),
      /this kernel has no BTF \(.*vmlinux\); it needs CONFIG_DEBUG_INFO_BTF=y/,
    ],
  ])('%s: it says so, and what to do, and ends', (_, by, what) => {
    const { status, said, ready } = agent(by);
    expect(status).toBe(1);
    expect(said.at(-1)).toMatchObject({ level: 60, msg: expect.stringMatching(what) });
    expect(ready).toBe(false);
  });

  it('a list of workloads that is wrong: it says where, and ends', () => {
    const { status, said } = agent([], { workloads: 'workloads:\n- {name: web, cgroup: not/absolute}\n' });
    expect(status).toBe(1);
    expect(said.at(-1)?.msg).toMatch(/workloads\.yaml:2:\d+: error: .*not\/absolute/);
  });
});

describe('belay probe', () => {
  it('says that this kernel can enforce every family of rules', () => {
    const { status, stdout } = spawnSync(process.execPath, [MAIN, 'probe'], { encoding: 'utf8' });
    expect({ status, stdout }).toMatchObject({ status: 0 });
  });

  it('says how programs attach to it', () => {
    const { stdout } = spawnSync(process.execPath, [MAIN, 'probe', '--json'], { encoding: 'utf8' });
    expect(JSON.parse(stdout)).toMatchObject({ attachment: attachment() });
  });
});
