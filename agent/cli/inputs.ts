import { accessSync, constants, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { policyFiles, unreadable } from '../policy/files.js';
import type { Diagnostic } from '../policy/model.js';
import { readWorkloadsFile } from '../workload/watch.js';
import type { Settings } from './config.js';

/** BPF_FS_MAGIC of linux/magic.h. */
const BPF_FS = 0xcafe4a11;

/** What the agent was given and cannot begin with. Nothing is changed by looking. */
export function inputFaults({
  policies,
  workloads,
  output,
  pin,
}: Pick<Settings, 'policies' | 'workloads' | 'output' | 'pin'>): Diagnostic[] {
  const found: Diagnostic[] = [];
  const fault = (file: string, message: string): void =>
    void found.push({ at: { file, line: 1, column: 1 }, severity: 'error', message });
  if (policies !== undefined) {
    try {
      policyFiles(policies);
    } catch (error) {
      fault(policies, `policies: ${unreadable(error)}`);
    }
  }
  if (workloads !== undefined)
    found.push(...readWorkloadsFile(workloads).diagnostics.filter(({ severity }) => severity === 'error'));
  if (output !== '-') {
    const why = unwritable(output);
    if (why !== undefined) fault(output, `output: ${why}`);
  }
  if (pin !== undefined) {
    const why = unpinnable(pin);
    if (why !== undefined) fault(pin, `pin: ${why}`);
  }
  return found;
}

/** Why a file cannot be written to, or made; undefined when it can. */
function unwritable(path: string): string | undefined {
  try {
    const there = statSync(path, { throwIfNoEntry: false });
    if (there?.isDirectory()) return 'it is a directory; name a file';
    if (there === undefined && !statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory())
      return `there is no directory ${dirname(path)}; make it`;
    accessSync(there === undefined ? dirname(path) : path, constants.W_OK);
    return undefined;
  } catch (error) {
    return `it cannot be written (${error instanceof Error ? error.message : String(error)})`;
  }
}

/** Why nothing can be pinned in a directory, which may be yet to be made. */
function unpinnable(path: string): string | undefined {
  for (let at = path; ; at = dirname(at)) {
    const there = statSync(at, { throwIfNoEntry: false });
    if (there === undefined && at !== dirname(at)) continue;
    if (there?.isDirectory() === false) return `${at} is no directory`;
    if (statfsSync(at).type === BPF_FS) return undefined;
    return 'it is not on a bpffs; write /sys/fs/bpf/… (mount -t bpf bpf /sys/fs/bpf, where there is none)';
  }
}
