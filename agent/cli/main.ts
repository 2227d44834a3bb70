#!/usr/bin/env -S node --max-semi-space-size=2
import { Command } from 'commander';
import { VERSION } from './version.js';

/** One file per command. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  agent: async () => (await import('./agent.js')).agentCommand(),
  check: async () => (await import('./check.js')).checkCommand(),
  policy: async () => (await import('./policy.js')).policyCommand(),
  probe: async () => (await import('./probe.js')).probeCommand(),
  events: async () => (await import('./events.js')).eventsCommand(),
  top: async () => (await import('./top.js')).topCommand(),
  tree: async () => (await import('./tree.js')).treeCommand(),
  sysdump: async () => (await import('./sysdump.js')).sysdumpCommand(),
  uninstall: async () => (await import('./uninstall.js')).uninstallCommand(),
};

/** The `belay` program. */
const program = new Command('belay')
  .description('runtime security for Kubernetes workloads, enforced in the kernel')
  .version(VERSION)
  .showHelpAfterError('(see belay --help)');

// a command that is named is loaded alone: the code of all takes memory, and a second
const [named = ''] = process.argv.slice(2);
const wanted = Object.hasOwn(COMMANDS, named) ? [COMMANDS[named]] : Object.values(COMMANDS);
for (const load of wanted) program.addCommand(await load());

// A reader that has seen enough (`belay check … | head`) is no fault of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

await program.parseAsync();
