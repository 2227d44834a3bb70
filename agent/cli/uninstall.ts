import { Command } from 'commander';
import { uninstall } from '../kernel/pins.js';

/** `belay uninstall`: the one way to take pinned enforcement off a node. */
export function uninstallCommand(): Command {
  return new Command('uninstall')
    .description('take pinned enforcement off this node: programs, tables and state of all versions')
    .requiredOption('--pin <directory>', 'what the agent was given with --pin')
    .action(async ({ pin }: { pin: string }) => {
      try {
        const programs = await uninstall(pin);
        process.stdout.write(
          programs > 0
            ? `${programs} programs taken off; an agent that still runs enforces until it ends\n`
            : `nothing is in force below ${pin}\n`,
        );
      } catch (error) {
        process.stderr.write(`belay uninstall: ${error instanceof Error ? error.message : error}\n`);
        process.exitCode = 1;
      }
    });
}
