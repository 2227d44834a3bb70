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

/** Kernel variables that the programs read by their address, with the constant of bpf/name.h that has it. */
const SYMBOLS = { rename_lock: 'rename_lock_at', mount_lock: 'mount_lock_at' } as const;

/** Without them renames could not be told from a name's change under way, so nothing is enforced rather than raced. */
export class NoSymbols extends Error {}

/**
 * Where the kernel has SYMBOLS, by the programs' constants.
 * @param kallsyms kernel/kallsyms.c; it has variables with CONFIG_KALLSYMS_ALL only, and addresses for who may see them only
 * @throws NoSymbols
 */
export function symbolAddresses(kallsyms = '/proc/kallsyms'): Readonly<Record<string, bigint>> {
  let text = Buffer.alloc(0);
  try {
    text = readFileSync(kallsyms);
  } catch {
    // the kernel has none at all
  }
  const found = Object.entries(SYMBOLS).map(([symbol, constant]) => {
    // a line: the address, a letter for the kind (7.2 has some variables among the code's), the name, and a module's module
    const name = text.indexOf(` ${symbol}\n`);
    const start = text.lastIndexOf('\n', name) + 1;
    const address = name < 0 ? undefined : BigInt(`0x${text.toString('latin1', start, name - 2)}`);
    return { symbol, constant, address };
  });
  const missing = found.filter(({ address }) => !address).map(({ symbol }) => symbol);
  if (missing.length === 0)
    return Object.fromEntries(found.map(({ constant, address }) => [constant, address ?? 0n]));
  const hidden = found.some(({ address }) => address === 0n);
  throw new NoSymbols(
    `the kernel does not say where its ${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} (/proc/kallsyms); ` +
      (hidden
        ? 'it needs CAP_SYSLOG, and the sysctl kernel.kptr_restrict to be below 2'
        : 'it needs CONFIG_KALLSYMS_ALL=y'),
  );
}

/** Why the programs cannot run here and what to do, most likely cause first. */
export function kernelTrouble(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (error instanceof NoSymbols) return unprivileged() ?? message;
  if (error instanceof NoAttachment || error instanceof CannotTakeOver) return message;
  if (!existsSync('/sys/kernel/btf/vmlinux')) {
    return `this kernel has no BTF (/sys/kernel/btf/vmlinux); it needs CONFIG_DEBUG_INFO_BTF=y: ${message}`;
  }
  if (code === 'EPERM')
    return `the kernel does not let this process load programs (container? lockdown?): ${message}`;
  return message;
}
