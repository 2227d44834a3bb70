import { unpinnable } from '../kernel/pins.js';
import { policyFiles, unreadable, unwritable } from '../policy/files.js';
import type { Diagnostic } from '../policy/model.js';
import { readWorkloadsFile } from '../workload/watch.js';
import type { Settings } from './config.js';

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
