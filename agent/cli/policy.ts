import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { safeJson } from '../event/safe-json.js';
import { Checker } from '../policy/check.js';
import { compile } from '../policy/compile.js';
import { readNamedBytes, unreadable } from '../policy/files.js';
import type { Diagnostic, Posture, Postures } from '../policy/model.js';

/** `belay policy …`: what becomes of policies. */
export function policyCommand(): Command {
  return new Command('policy').description('look into policies').addCommand(
    new Command('compile')
      .description(
        'compile the policies of a file as if they all reached one workload, and print what it took',
      )
      .argument('<file>', 'a policy file, or - for standard input')
      .addOption(
        new Option('--posture <posture>', 'what happens to what no rule of an allow-list matches')
          .choices(['audit', 'block'])
          .default('audit'),
      )
      .option('--json', 'print the figures as JSON')
      .action(compileFile),
  );
}

function compileFile(file: string, options: { posture: Posture; json?: boolean }): void {
  const posture = options.posture;
  const postures: Postures = { file: posture, network: posture, capabilities: posture };
  const name = file === '-' ? '<stdin>' : file;
  const checker = new Checker();
  try {
    checker.add(file === '-' ? readFileSync(0) : readNamedBytes(file), name);
  } catch (error) {
    checker.fail(name, unreadable(error));
  }
  const { policies, diagnostics, errors } = checker.finish();
  tell(diagnostics);
  if (errors > 0) {
    process.exitCode = 1;
    return;
  }
  const start = process.hrtime.bigint();
  const result = compile(policies, postures);
  const milliseconds = Number((process.hrtime.bigint() - start) / 10_000n) / 100;
  if (!result.ok) {
    tell(result.diagnostics);
    process.exitCode = 1;
    return;
  }
  const { stats } = result.set;
  const rules = policies.reduce((n, p) => n + p.rules.length, 0);
  const figures = { policies: policies.length, rules, ...stats, milliseconds };
  if (options.json) {
    process.stdout.write(`${safeJson(figures, 2)}\n`);
    return;
  }
  for (const [key, value] of Object.entries(figures))
    process.stdout.write(`${(LABELS[key] ?? key).padEnd(18)}${String(value).padStart(12)}\n`);
}

const LABELS: Readonly<Record<string, string>> = {
  states: 'automaton states',
  objectClasses: 'object classes',
  subjectClasses: 'subject classes',
  cells: 'table cells',
  bytes: 'table bytes',
};

function tell(diagnostics: readonly Diagnostic[]): void {
  for (const { at, severity, message } of diagnostics) {
    process.stderr.write(`${at.file}:${at.line}:${at.column}: ${severity}: ${message}\n`);
  }
}
