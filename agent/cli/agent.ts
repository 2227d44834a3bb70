import { rmSync, writeFileSync } from 'node:fs';
import { Command } from 'commander';
import type { Logger } from 'pino';
import type { AlertRecord } from '../event/record.js';
import { Redactor } from '../event/redact.js';
import { EventStream } from '../event/stream.js';
import { Throttle, type ThrottleLimits } from '../event/throttle.js';
import { Enforcer } from '../kernel/enforcer.js';
import { Kernel } from '../kernel/kernel.js';
import { kernelTrouble, unprivileged } from '../kernel/trouble.js';
import { PolicyDirectory } from '../policy/directory.js';
import type { Diagnostic, Postures } from '../policy/model.js';
import { formatsWith } from '../sink/formats/format.js';
import { JsonLines } from '../sink/json-lines.js';
import { makeSink } from '../sink/make.js';
import { Sinks } from '../sink/sinks.js';
import { visibilityOf } from '../workload/visibility.js';
import { watchWorkloads } from '../workload/watch.js';
import { watchPath } from '../workload/watch-path.js';
import { agentLog } from './agent-log.js';
import type { ClusterFeed } from './cluster.js';
import { configHelp, configOptions, type Flags, loadConfig, watchConfig } from './config.js';
import { ContainerKiller } from './container-killer.js';
import { inputFaults } from './inputs.js';
import { Serving } from './serving.js';
import type { Settings } from './settings.js';
import { tell, Wanted } from './wanted.js';

const REFRESH_MS = 1000;

const DIRECTORY = 'directory';
const FILE = 'file';
const CLUSTER = 'cluster';

/** `belay agent`: the composition root. Policies and workloads go in, enforcement and events come out. */
export function agentCommand(): Command {
  const command = new Command('agent').description('enforce policies on the workloads of this node');
  for (const option of configOptions()) command.addOption(option);
  return command
    .addHelpText(
      'after',
      `${configHelp()}

The workloads file:
  containerd: /run/containerd/containerd.sock   # its containers are workloads too (optional)
  workloads:
  - {namespace: shop, name: web-1, labels: {app: web}, container: nginx, cgroup: /sys/fs/cgroup/…}`,
    )
    .action(run);
}

const posturesOf = ({ filePosture, networkPosture, capabilitiesPosture }: Settings): Postures => ({
  file: filePosture,
  network: networkPosture,
  capabilities: capabilitiesPosture,
});

function limitsOf({ alertThrottling, maxAlertPerSec, throttleSec }: Settings): ThrottleLimits | undefined {
  return alertThrottling ? { alertsPerSecond: maxAlertPerSec, seconds: throttleSec } : undefined;
}

async function makeSinks(inForce: () => Settings, log: Logger): Promise<Sinks> {
  const { sinks, node, spool } = inForce();
  const formats = formatsWith(inForce);
  const onTrouble = (sink: string, trouble: string | undefined) => {
    if (trouble === undefined) log.info({ sink }, 'events reach the sink again');
    else log.warn({ sink, reason: trouble }, 'events do not reach the sink; they wait on disk');
  };
  const made = await Promise.allSettled(
    sinks.map((each) => makeSink(each, { node, spool, formats, onTrouble })),
  );
  const failed = made.find((each) => each.status === 'rejected');
  const all = new Sinks(made.flatMap((each) => (each.status === 'fulfilled' ? each.value : [])));
  if (failed === undefined) return all;
  await all.close();
  throw failed.reason;
}

async function run(flags: Flags): Promise<void> {
  const log = agentLog();
  // what can be known at once is said before the kernel programs are loaded, which takes a while
  const lacking = unprivileged();
  if (lacking !== undefined) {
    log.fatal(lacking);
    process.exitCode = 1;
    return;
  }
  const { settings, diagnostics } = loadConfig(flags, process.env);
  const faults = [...diagnostics, ...(settings === undefined ? [] : inputFaults(settings))];
  tell(log, faults);
  if (settings === undefined || faults.some(({ severity }) => severity === 'error')) {
    process.exitCode = 1;
    return;
  }
  let current = settings;
  const inForce = () => current;
  log.level = settings.logLevel;
  const directory = settings.policies
    ? new PolicyDirectory(settings.policies, posturesOf(settings))
    : undefined;
  const firstRead = directory?.read();
  if (firstRead) tell(log, firstRead.diagnostics);
  let sinks: Sinks;
  try {
    sinks = await makeSinks(inForce, log);
  } catch (error) {
    log.fatal(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
    return;
  }
  // A ready file from an earlier run says nothing of this one.
  if (settings.readyFile) rmSync(settings.readyFile, { force: true });

  let kernel: Kernel;
  try {
    log.info('loading the kernel programs');
    kernel = new Kernel({ pin: settings.pin });
  } catch (error) {
    log.fatal(kernelTrouble(error));
    await sinks.close();
    process.exitCode = 1;
    return;
  }
  if (kernel.absent.length > 0)
    log.warn({ hooks: kernel.absent }, 'this kernel lacks hooks; see belay probe');
  if (kernel.unadopted.length > 0)
    log.warn(
      { reason: kernel.unadopted },
      'cannot adopt tables that an agent before left in force; their workloads wait for new ones',
    );

  const sink = new JsonLines(settings.output);
  const redactor = new Redactor(settings.redact);
  const enforcer = new Enforcer(kernel, posturesOf(settings), visibilityOf(settings.visibility));
  const killer = new ContainerKiller(log);
  const wanted = new Wanted({
    enforcer,
    kernel,
    log,
    policySources: [...(settings.policies ? [DIRECTORY] : []), ...(settings.kubernetes ? [CLUSTER] : [])],
    workloadSources: [...(settings.workloads ? [FILE] : []), ...(settings.kubernetes ? [CLUSTER] : [])],
    onReady: () => {
      serving.enforces();
      if (settings.readyFile) writeFileSync(settings.readyFile, `${process.pid}\n`);
      events.start().then(
        (took) => took && log.info('took over from an earlier version, whose programs are off'),
        (error) => log.error({ error }, 'the programs of an earlier version could not be taken off'),
      );
    },
    onApplied: (seconds) => {
      serving.applied(seconds);
      cluster?.applied();
    },
  });
  const serving = new Serving({
    ...{ settings, kernel, enforcer, wanted, redactor, log, sinks },
    kubeArmor: inForce,
    cluster: () => cluster,
  });
  const open: { close(): unknown }[] = [];
  let cluster: ClusterFeed | undefined;
  const throttle = new Throttle(limitsOf(settings));
  const events = new EventStream(
    kernel,
    enforcer,
    { node: settings.node, cluster: settings.clusterName },
    {
      write(whole, position) {
        const record = redactor.redact(whole);
        sink.write(record);
        sinks.write(record, position);
        serving.record(record);
        cluster?.record(record);
        if (record.type === 'failure')
          log.warn({ failure: record.failure, count: record.count }, 'failed in the kernel');
        if (record.type === 'alert') killer.consider(record, enforcer);
      },
      withhold(whole: AlertRecord, position) {
        const alert = redactor.redact(whole);
        sinks.withhold(alert, position);
        serving.withheld(alert);
        cluster?.record(alert);
        killer.consider(alert, enforcer);
      },
      keep() {
        sink.flush();
        sinks.flush();
      },
      cgroupMade(path) {
        enforcer.cgroupMade(path);
        cluster?.cgroupMade(path);
      },
    },
    throttle,
  );
  const tellDropped = () => {
    const { dropped, error } = sink.takeDropped();
    if (dropped > 0) log.error({ dropped, reason: error?.message }, 'records were not written');
  };
  const end = async () => {
    for (const each of open.splice(0)) await each.close();
    events.close();
    kernel.close();
    await sink.close();
    tellDropped();
    await sinks.close();
    if (settings.readyFile) rmSync(settings.readyFile, { force: true });
  };

  try {
    if (directory && firstRead) {
      wanted.setPolicies(DIRECTORY, firstRead.policies);
      open.push(watchPath(directory.path, () => followDirectory(directory)));
    }
    if (settings.kubernetes) {
      const { ClusterFeed } = await import('./cluster.js');
      cluster = new ClusterFeed({
        settings,
        source: CLUSTER,
        postures: posturesOf(settings),
        kernel,
        enforcer,
        wanted,
        log,
      });
      open.push(cluster);
    }
    open.push(serving);
    await serving.open();
    if (settings.workloads) {
      const onChange = wanted.setWorkloads.bind(wanted, FILE);
      open.push(await watchWorkloads({ file: settings.workloads, log, onChange }));
    }
  } catch (error) {
    if (error instanceof Error && 'diagnostics' in error) tell(log, error.diagnostics as Diagnostic[]);
    else log.fatal(error instanceof Error ? error.message : String(error));
    await end();
    process.exitCode = 1;
    return;
  }

  function followDirectory(directory: PolicyDirectory): void {
    const { policies, diagnostics, changed } = directory.read();
    tell(log, diagnostics);
    if (changed) wanted.setPolicies(DIRECTORY, policies);
  }

  open.push(
    watchConfig({
      flags,
      env: process.env,
      settings,
      onDiagnostics: (found) => tell(log, found),
      onChange: ({ settings: now, changed, restart }) => {
        current = now;
        log.level = now.logLevel;
        throttle.limits = limitsOf(now);
        if (restart.length > 0) log.warn({ settings: restart }, 'changed settings wait for the next start');
        if (changed.length === 0) return;
        log.info({ settings: changed }, 'changed settings are in force');
        tell(log, enforcer.setPostures(posturesOf(now)));
        tell(log, enforcer.setVisibility(visibilityOf(now.visibility)));
        cluster?.reconfigure(now, posturesOf(now));
      },
    }),
  );
  const refresh = setInterval(() => {
    enforcer.refresh();
    serving.looked();
    tellDropped();
  }, REFRESH_MS);

  const stop = async (signal: string) => {
    log.info({ signal, pinned: settings.pin }, 'ending');
    clearInterval(refresh);
    await end();
    process.exit(0);
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}
