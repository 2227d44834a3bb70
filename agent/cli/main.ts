#!/usr/bin/env -S node --max-semi-space-size=2
import { Command } from 'commander';
import { agentCommand } from './agent.js';
import { checkCommand } from './check.js';
import { eventsCommand } from './events.js';
import { policyCommand } from './policy.js';
import { probeCommand } from './probe.js';
import { sysdumpCommand } from './sysdump.js';
import { topCommand } from './top.js';
import { treeCommand } from './tree.js';
import { uninstallCommand } from './uninstall.js';
import { VERSION } from './version.js';

/** The `belay` program: one file per command, added here. */
const program = new Command('belay')
  .description('runtime security for Kubernetes workloads, enforced in the kernel')
  .version(VERSION)
  .showHelpAfterError('(see belay --help)')
  .addCommand(agentCommand())
  .addCommand(checkCommand())
  .addCommand(policyCommand())
  .addCommand(probeCommand())
  .addCommand(eventsCommand())
  .addCommand(topCommand())
  .addCommand(treeCommand())
  .addCommand(sysdumpCommand())
  .addCommand(uninstallCommand());

// A reader that has seen enough (`belay check … | head`) is no fault of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

await program.parseAsync();
