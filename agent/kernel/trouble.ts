import { existsSync, readFileSync } from 'node:fs';
import type { Addon, Attachment } from './addon.js';
import { CannotTakeOver } from './pins.js';

/** The kernel's active security modules, or undefined where they cannot be read. */
export function activeLsms(): string[] | undefined {
  try {
    return readFileSync('/sys/kernel/security/lsm', 'utf8').trim().split(',');
  } catch {
    return undefined;
  }
}

/** Programs may be loaded here, and would never be called. */
export class NoAttachment extends Error {}

/**
 * How programs get called on this kernel: as BPF LSM where `bpf` is among the active security modules (elsewhere such
 * programs attach and are never called), else on the functions that call them.
 * @throws NoAttachment
 */
export function attachment(addon: Addon): Attachment {
  const lsms = activeLsms();
  if (lsms === undefined) {
    throw new NoAttachment(
      'cannot tell whether BPF LSM is active: /sys/kernel/security/lsm cannot be read; ' +
        'mount it with: mount -t securityfs securityfs /sys/kernel/security',
    );
  }
  if (lsms.includes('bpf')) return 'lsm';
  if (addon.hookParameters('file_open', 'fmod_ret') < 0) {
    throw new NoAttachment(
      `BPF LSM is not active (active: ${lsms.join(',')}), and the kernel's BTF has no security_file_open to attach to ` +
        `instead; boot with lsm=${[...lsms, 'bpf'].join(',')} on a kernel that has CONFIG_BPF_LSM=y`,
    );
  }
  return 'fmod_ret';
}

/** CAP_SYS_ADMIN's bit (linux/capability.h); who has that needs neither CAP_BPF nor CAP_PERFMON. */
const SYS_ADMIN = 1n << 21n;

/** What this process lacks to load programs, as far as that can be told without trying; undefined = nothing. */
export function unprivileged(): string | undefined {
  if (process.getuid?.() === 0) return undefined;
  const [, effective = '0'] =
    /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  if ((BigInt(`0x${effective}`) & SYS_ADMIN) !== 0n) return undefined;
  return 'loading kernel programs needs root (or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN); run as root';
}

/** Kernel variables that the programs cannot do without: the `__ksym`s of bpf/ that are not weak. */
export const SYMBOLS = ['rename_lock', 'mount_lock'];

/** Those of SYMBOLS that libbpf will not find; it looks in kallsyms, where variables are with CONFIG_KALLSYMS_ALL only. */
export function missingSymbols(kallsyms = '/proc/kallsyms'): string[] {
  let text = '';
  try {
    text = readFileSync(kallsyms, 'latin1');
  } catch {
    // the kernel has none at all
  }
  return SYMBOLS.filter((symbol) => !new RegExp(`^\\S+ \\S ${symbol}$`, 'm').test(text));
}

export function symbolTrouble(symbols: readonly string[]): string {
  return `the kernel does not say where its ${symbols.join(' and ')} ${symbols.length > 1 ? 'are' : 'is'} (/proc/kallsyms); it needs CONFIG_KALLSYMS_ALL=y`;
}

/** Why the programs cannot run here and what to do, most likely cause first. */
export function kernelTrouble(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (error instanceof NoAttachment || error instanceof CannotTakeOver) return message;
  if (!existsSync('/sys/kernel/btf/vmlinux')) {
    return `this kernel has no BTF (/sys/kernel/btf/vmlinux); it needs CONFIG_DEBUG_INFO_BTF=y: ${message}`;
  }
  const symbols = code === 'ESRCH' ? missingSymbols() : [];
  if (symbols.length > 0) return `${symbolTrouble(symbols)}: ${message}`;
  if (code === 'EPERM')
    return `the kernel does not let this process load programs (container? lockdown?): ${message}`;
  return message;
}
