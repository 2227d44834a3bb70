import { existsSync, readFileSync } from 'node:fs';

/** The kernel's active security modules, or undefined where they cannot be read. */
export function activeLsms(): string[] | undefined {
  try {
    return readFileSync('/sys/kernel/security/lsm', 'utf8').trim().split(',');
  } catch {
    return undefined;
  }
}

/** BPF LSM programs may be loaded and attached where `bpf` is not among the active modules, and are never called. */
export class LsmInactive extends Error {}

/** @throws LsmInactive unless attached programs will be called */
export function requireBpfLsm(): void {
  const lsms = activeLsms();
  if (lsms === undefined) {
    throw new LsmInactive(
      'cannot tell whether BPF LSM is active: /sys/kernel/security/lsm cannot be read; ' +
        'mount it with: mount -t securityfs securityfs /sys/kernel/security',
    );
  }
  if (!lsms.includes('bpf')) {
    throw new LsmInactive(
      `BPF LSM is not active (active: ${lsms.join(',')}); boot with lsm=${[...lsms, 'bpf'].join(',')} ` +
        'on a kernel that has CONFIG_BPF_LSM=y',
    );
  }
}

/** Why the programs cannot run here and what to do, most likely cause first. */
export function kernelTrouble(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (error instanceof LsmInactive) return message;
  if (process.getuid?.() !== 0) {
    return `loading kernel programs needs root (or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN); run as root: ${message}`;
  }
  if (!existsSync('/sys/kernel/btf/vmlinux')) {
    return `this kernel has no BTF (/sys/kernel/btf/vmlinux); it needs CONFIG_DEBUG_INFO_BTF=y: ${message}`;
  }
  if (code === 'EPERM')
    return `the kernel does not let this process load programs (container? lockdown?): ${message}`;
  return message;
}
