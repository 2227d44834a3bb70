import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { Command } from 'commander';
import { type Addon, type Attachment, loadAddon } from '../kernel/addon.js';
import { activeLsms, attachment, symbolAddresses, unprivileged } from '../kernel/trouble.js';
import { colours, tableOf } from './terminal.js';

interface Family {
  readonly family: string;
  readonly rules: string;
  /** LSM hooks without which it does not hold. */
  readonly hooks: readonly string[];
  /** Hooks that are missed without harm, and what does their work there. */
  readonly instead?: Readonly<Record<string, string>>;
}

const FAMILIES: readonly Family[] = [
  {
    family: 'process',
    rules: 'matchPaths, matchDirectories, matchPatterns',
    hooks: ['bprm_creds_for_exec', 'bprm_check_security', 'bprm_committed_creds', 'task_alloc'],
  },
  {
    family: 'process',
    rules: 'ld.so, dlopen, anonymousMapExec',
    hooks: ['mmap_file', 'mmap_addr', 'file_mprotect'],
  },
  {
    family: 'process',
    rules: 'drift, where the root is an overlay',
    hooks: ['bprm_check_security', 'mmap_file', 'file_mprotect'],
  },
  { family: 'process', rules: 'allowedArgs, presets exec and filelessExec', hooks: ['bprm_committed_creds'] },
  { family: 'file', rules: 'open', hooks: ['file_open', 'file_receive'] },
  {
    family: 'file',
    rules: 'create, remove, rename, link',
    hooks: [
      'path_unlink',
      'path_rmdir',
      'path_mkdir',
      'path_mknod',
      'path_symlink',
      'path_link',
      'path_rename',
    ],
  },
  {
    family: 'file',
    rules: 'truncate, mode, owner, times, xattr, ACLs, flags',
    hooks: [
      'path_truncate',
      'file_truncate',
      'path_chmod',
      'path_chown',
      'inode_setattr',
      'inode_setxattr',
      'inode_removexattr',
      'inode_set_acl',
      'inode_remove_acl',
      'file_ioctl',
      'file_ioctl_compat',
    ],
    instead: {
      file_truncate: 'path_truncate, until 6.2',
      inode_set_acl: 'inode_setxattr, until 6.2',
      inode_remove_acl: 'inode_removexattr, until 6.2',
      file_ioctl_compat: 'file_ioctl, until 6.8',
    },
  },
  { family: 'file', rules: 'unix sockets with a path', hooks: ['unix_stream_connect', 'unix_may_send'] },
  {
    family: 'network',
    rules: 'matchProtocols',
    hooks: ['socket_create', 'socket_connect', 'socket_sendmsg', 'socket_bind'],
  },
  {
    family: 'network',
    rules: 'egress',
    hooks: ['socket_connect', 'socket_sendmsg', 'socket_setsockopt', 'sctp_bind_connect'],
  },
  {
    family: 'network',
    rules: 'ingress (TCP, SCTP)',
    hooks: ['socket_bind', 'socket_listen', 'socket_accept', 'inet_conn_request', 'sctp_assoc_request'],
  },
  { family: 'network', rules: 'matchDNSQueries', hooks: ['socket_connect', 'socket_sendmsg'] },
  { family: 'capabilities', rules: 'matchCapabilities', hooks: ['capable'] },
  { family: 'syscalls', rules: 'matchSyscalls, matchPaths (reported)', hooks: ['path_unlink'] },
  {
    family: 'escape',
    rules: 'mount, umount, pivot_root, chroot',
    hooks: [
      'sb_mount',
      'move_mount',
      'sb_kern_mount',
      'sb_remount',
      'sb_umount',
      'sb_pivotroot',
      'path_chroot',
    ],
  },
  { family: 'escape', rules: 'ptrace', hooks: ['ptrace_access_check', 'ptrace_traceme'] },
  { family: 'escape', rules: 'user_namespace', hooks: ['userns_create'] },
  { family: 'escape', rules: 'bpf, perf_event', hooks: ['bpf', 'perf_event_open'] },
  {
    family: 'escape',
    rules: 'kernel_module, kexec',
    hooks: ['kernel_module_request', 'kernel_read_file', 'kernel_load_data'],
  },
  { family: 'escape', rules: 'kernel_interface, device_node', hooks: ['file_open', 'path_mknod'] },
  {
    family: 'agent',
    rules: 'its own protection',
    hooks: [
      'task_kill',
      'file_send_sigiotask',
      'task_setscheduler',
      'task_setnice',
      'task_movememory',
      'task_prlimit',
      'ptrace_access_check',
      'bpf_map',
      'bpf_prog',
      'path_unlink',
      'path_rmdir',
      'path_rename',
      'sb_umount',
      'file_open',
    ],
  },
];

const NOT_YET: readonly Omit<Finding, 'enforced'>[] = [
  {
    family: 'network',
    rules: 'peers by fqdn, podSelector, namespaceSelector',
    why: 'not enforced by this version: rules are read, and checks warn of them',
  },
];

interface Finding {
  readonly family: string;
  readonly rules: string;
  readonly enforced: boolean;
  readonly why: string;
}

/** `belay probe`: what this kernel can enforce, and why not the rest. */
export function probeCommand(): Command {
  return new Command('probe')
    .description(
      'list which rules this kernel can enforce, and why not the others; exit 1 if the kernel is why',
    )
    .option('--json', 'print the findings as JSON')
    .action((options: { json?: boolean }) => {
      const addon = loadAddon();
      const way = wayOf(addon);
      const found = findings(addon, way);
      const lsms = activeLsms();
      const attachment = typeof way === 'string' ? way : undefined;
      if (options.json) {
        process.stdout.write(
          `${JSON.stringify({ kernel: release(), lsms, attachment, findings: found }, null, 2)}\n`,
        );
      } else {
        process.stdout.write(
          `kernel ${release()}, active security modules: ${lsms?.join(', ') ?? 'unknown'}\n`,
        );
        // what keeps everything from being enforced is said once
        const trouble = typeof way === 'string' ? undefined : way.trouble;
        process.stdout.write(
          typeof way === 'string'
            ? `programs attach as ${ATTACHMENTS[way]}\n`
            : `${colours.red('nothing can be enforced here')}: ${way.trouble}\n`,
        );
        const rows = found.map(({ family, rules, enforced, why }) => [
          ...[family, rules, enforced ? colours.green('yes') : colours.red('no')],
          why === trouble ? '' : why,
        ]);
        process.stdout.write(`\n${tableOf(['family', 'rules', 'enforced', 'why'], rows)}`);
      }
      if (FAMILIES.some((f) => !look(f, addon, way).enforced)) process.exitCode = 1;
    });
}

/** Each family of rules, and whether this kernel can enforce it. */
export function findings(addon: Addon, way = wayOf(addon)): Finding[] {
  return [
    ...FAMILIES.map((f) => look(f, addon, way)),
    ...NOT_YET.map((each) => ({ ...each, enforced: false })),
  ];
}

const ATTACHMENTS: Readonly<Record<Attachment, string>> = {
  lsm: 'BPF LSM',
  fmod_ret: 'fmod_ret on the security_ functions, since bpf is not an active security module',
};

/** How programs get called here, or what keeps everything from being enforced. */
function wayOf(addon: Addon): Attachment | { readonly trouble: string } {
  if (!existsSync('/sys/kernel/btf/vmlinux'))
    return { trouble: 'the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)' };
  try {
    const way = attachment(addon);
    // only who may load programs can see addresses
    if (unprivileged() === undefined) symbolAddresses();
    return way;
  } catch (error) {
    return { trouble: error instanceof Error ? error.message : String(error) };
  }
}

function look(
  { family, rules, hooks, instead = {} }: Family,
  addon: Addon,
  way: Attachment | { readonly trouble: string },
): Finding {
  if (typeof way !== 'string') return { family, rules, enforced: false, why: way.trouble };
  const missing = hooks.filter((hook) => addon.hookParameters(hook, way) < 0);
  const lacking = missing.filter((hook) => !(hook in instead));
  if (lacking.length > 0) {
    return { family, rules, enforced: false, why: `the kernel has no hook ${lacking.join(', ')}` };
  }
  const note = missing.map((hook) => `no hook ${hook}: ${instead[hook]}`).join('; ');
  return { family, rules, enforced: true, why: note };
}
