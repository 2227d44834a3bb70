import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

describe('the machine that these tests run in', () => {
  it('runs the kernel that the harness booted', () => {
    const running = execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim();
    expect(process.env.BELAY_VM, 'kernel tests belong in a virtual machine: make test-kernel').toBe(running);
  });

  it('has the security modules active that it was booted with', () => {
    const asked = /\blsm=(\S+)/.exec(readFileSync('/proc/cmdline', 'utf8'))?.[1].split(',') ?? [];
    const active = readFileSync('/sys/kernel/security/lsm', 'utf8').split(',');
    expect(asked).not.toEqual([]);
    expect(active.includes('bpf')).toBe(asked.includes('bpf'));
  });

  it.each([
    ['/sys/fs/cgroup', 'cgroup2'],
    ['/sys/fs/bpf', 'bpf'],
    ['/sys/kernel/tracing', 'tracefs'],
    ['/tmp', 'tmpfs'],
  ])('has %s as %s', (path, type) => {
    const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
    expect(mounts.map((line) => line.split(' ').slice(1, 3))).toContainEqual([path, type]);
  });

  it('shows the BTF of the kernel', () => {
    expect(readFileSync('/sys/kernel/btf/vmlinux').subarray(0, 2).readUInt16LE()).toBe(0xeb9f);
  });
});
