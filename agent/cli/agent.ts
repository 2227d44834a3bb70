import { rmSync, writeFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { type Logger, pino } from 'pino';
import { EventStream } from '../event/stream.js';
import { Enforcer } from '../kernel/enforcer.js';
import { Kernel } from '../kernel/kernel.js';
import { kernelTrouble } from '../kernel/trouble.js';
import { PolicyDirectory } from '../policy/directory.js';
import type { Diagnostic, Posture, Postures } from '../policy/model.js';
import { JsonLines } from '../sink/json-lines.js';
import type { Workload } from '../workload/model.js';
import { watchWorkloads } from '../workload/watch.js';
import { watchPath } from '../workload/watch-path.js';
import { ContainerKiller } from './container-killer.js';

interface AgentOptions {
  readonly policies: string;
  readonly workloads: string;
  readonly output: string;
  readonly readyFile?: string;
  readonly pin?: string;
  readonly telemetry?: boolean;
  readonly filePosture: Posture;
  readonly networkPosture: Posture;
  readonly capabilitiesPosture: Posture;
  readonly logLevel: string;
}

const posture = (name: string, of: string) =>
  new Option(`--${name}-posture <posture>`, `what happens to ${of} that no rule of an allow-list matches`)
    .choices(['audit', 'block'])
    .default('audit');

const REFRESH_MS = 1000;

/** `belay agent`: the composition root. Policies and workloads go in, enforcement and events come out. */
export function agentCommand(): Command {
  return new Command('agent')
    .description('enforce policies on the workloads of this node')
    .requiredOption('--policies <dir>', 'directory of policy files; changes take effect at once')
    .requiredOption('--workloads <file>', 'which containers or cgroups are which workloads (YAML)')
    .option('--output <file>', 'where events go, one JSON object a line; - is standard output', '-')
    .option('--ready-file <path>', 'file that is written once everything enforces')
    .option('--pin <dir>', 'directory on a bpffs (/sys/fs/bpf/…) where enforcement stays when the agent ends')
    .option('--telemetry', 'also report every program that starts in a workload')
    .addOption(posture('file', 'files and programs'))
    .addOption(posture('network', 'sockets and addresses'))
    .addOption(posture('capabilities', 'capabilities'))
    .addOption(
      new Option('--log-level <level>', 'how much goes to standard error')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .addHelpText(
      'after',
      `
The workloads file:
  containerd: /run/containerd/containerd.sock   # its containers are workloads too (optional)
  workloads:
  - {namespace: shop, name: web-1, labels: {app: web}, container: nginx, cgroup: /sys/fs/cgroup/…}`,
    )
    .action(run);
}

async function run(options: AgentOptions): Promise<void> {
  const log = pino({ level: options.logLevel, base: null }, pino.destination(2));
  const postures: Postures = {
    file: options.filePosture,
    network: options.networkPosture,
    capabilities: options.capabilitiesPosture,
  };
  // A ready file from an earlier run says nothing of this one.
  if (options.readyFile) rmSync(options.readyFile, { force: true });

  const directory = new PolicyDirectory(options.policies, postures);
  const first = directory.read();
  tell(log, first.diagnostics);

  let kernel: Kernel;
  try {
    log.info('loading the kernel programs');
    kernel = new Kernel({ pin: options.pin, telemetry: options.telemetry });
  } catch (error) {
    log.fatal(kernelTrouble(error));
    process.exitCode = 1;
    return;
  }
  if (kernel.absent.length > 0)
    log.warn({ hooks: kernel.absent }, 'this kernel lacks hooks; see belay probe');

  const sink = new JsonLines(options.output);
  const enforcer = new Enforcer(kernel, postures);
  const killer = new ContainerKiller(log);
  const events = new EventStream(kernel, enforcer, (record) => {
    sink.write(record);
    if (record.type === 'failure')
      log.warn({ failure: record.failure, count: record.count }, 'failed in the kernel');
    if (record.type === 'alert') killer.consider(record, enforcer);
  });

  tell(log, enforcer.setPolicies(first.policies));
  let ready = false;
  const applyWorkloads = (workloads: readonly Workload[]) => {
    tell(log, enforcer.setWorkloads(workloads));
    log.info(
      { workloads: workloads.length, sets: enforcer.sets, tableBytes: kernel.tableBytes },
      'workloads in force',
    );
    if (!ready && options.readyFile) writeFileSync(options.readyFile, `${process.pid}\n`);
    ready = true;
  };

  let workloads: Awaited<ReturnType<typeof watchWorkloads>>;
  try {
    workloads = await watchWorkloads({ file: options.workloads, log, onChange: applyWorkloads });
  } catch (error) {
    if (!(error instanceof Error && 'diagnostics' in error)) throw error;
    tell(log, error.diagnostics as readonly Diagnostic[]);
    events.close();
    kernel.close();
    process.exitCode = 1;
    return;
  }
  const policies = watchPath(options.policies, () => {
    const read = directory.read();
    tell(log, read.diagnostics);
    if (!read.changed) return;
    tell(log, enforcer.setPolicies(read.policies));
    log.info(
      { policies: read.policies.length, sets: enforcer.sets, tableBytes: kernel.tableBytes },
      'policies in force',
    );
  });
  const refresh = setInterval(() => {
    enforcer.refresh();
    const { dropped, error } = sink.takeDropped();
    if (dropped > 0) log.error({ dropped, reason: error?.message }, 'records were not written');
  }, REFRESH_MS);

  const stop = async (signal: string) => {
    log.info({ signal, pinned: options.pin }, 'ending');
    clearInterval(refresh);
    policies.close();
    await workloads.close();
    events.close();
    kernel.close();
    await sink.close();
    if (options.readyFile) rmSync(options.readyFile, { force: true });
    process.exit(0);
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

function tell(log: Logger, diagnostics: readonly Diagnostic[]): void {
  for (const { at, severity, message } of diagnostics) {
    log[severity === 'error' ? 'error' : 'warn'](
      `${at.file}:${at.line}:${at.column}: ${severity}: ${message}`,
    );
  }
}
