import { statSync } from 'node:fs';
import { unpinnable } from '../kernel/pins.js';
import { policyFiles, unreadable, unwritable } from '../policy/files.js';
import type { Diagnostic } from '../policy/model.js';
import { readSecret, type Secret } from '../sink/secret.js';
import type { SinkSettings } from '../sink/settings.js';
import { readWorkloadsFile } from '../workload/watch.js';
import { pemFaults } from './pem-faults.js';
import type { Settings } from './settings.js';

type Inputs = Pick<
  Settings,
  | 'policies'
  | 'workloads'
  | 'output'
  | 'readyFile'
  | 'pin'
  | 'sinks'
  | 'tlsCertificate'
  | 'tlsKey'
  | 'tlsClientCa'
>;

/**
 * What the agent was given and cannot begin with; and, as warnings, what keeps events from a sink until it is mended.
 * Nothing is changed by looking.
 */
export function inputFaults(inputs: Inputs): Diagnostic[] {
  const { policies, workloads, output, readyFile, pin, sinks } = inputs;
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
  if (readyFile !== undefined) {
    const why = unwritable(readyFile);
    if (why !== undefined) fault(readyFile, `readyFile: ${why}`);
  }
  if (pin !== undefined) {
    const why = unpinnable(pin);
    if (why !== undefined) fault(pin, `pin: ${why}`);
  }
  const { tlsClientCa, tlsCertificate, tlsKey } = inputs;
  for (const { file, message } of pemFaults({
    ca: ['tlsClientCa', tlsClientCa],
    cert: ['tlsCertificate', tlsCertificate],
    key: ['tlsKey', tlsKey],
  }))
    fault(file, message);
  return [...found, ...sinks.flatMap(sinkFaults)];
}

/** The sink is made nevertheless, and reads its files anew for each connection. */
function sinkFaults(sink: SinkSettings): Diagnostic[] {
  const found: Diagnostic[] = [];
  const fault = (file: string, message: string): void =>
    void found.push({
      at: { file, line: 1, column: 1 },
      severity: 'warning',
      message: `sink ${sink.name}: ${message}; events wait on disk until it can be used`,
    });
  if (sink.type === 'file' && statSync(sink.path, { throwIfNoEntry: false })?.isDirectory())
    fault(sink.path, 'path: it is a directory');
  if ('caFile' in sink || 'certFile' in sink)
    for (const { file, message } of pemFaults({
      ca: ['caFile', sink.caFile],
      cert: ['certFile', sink.certFile],
      key: ['keyFile', sink.keyFile],
    }))
      fault(file, message);
  const { token, password, apiKey } = sink as { readonly [name in 'token' | 'password' | 'apiKey']?: Secret };
  for (const [name, secret] of Object.entries({ token, password, apiKey })) {
    try {
      if (secret !== undefined) readSecret(secret);
    } catch (error) {
      const file = secret !== undefined && 'file' in secret ? secret.file : 'environment';
      fault(file, `${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return found;
}
