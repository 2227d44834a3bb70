import { realpathSync, statSync } from 'node:fs';
import { Command } from 'commander';
import { safeJson } from '../event/safe-json.js';
import { Checker, type CheckResult } from '../policy/check.js';
import { policyFiles, readNamedBytes, readPolicyBytes, unreadable } from '../policy/files.js';
import { MAX_FILE_BYTES } from '../policy/source.js';

interface Summary {
  readonly files: number;
  /** Valid ones. */
  readonly policies: number;
  readonly errors: number;
  readonly warnings: number;
}

/** `belay check FILE|DIR…`: what is wrong with policies, before they are put in force. */
export function checkCommand(): Command {
  return new Command('check')
    .description('validate policies and point out doubtful rules; exit 1 if any is invalid')
    .argument(
      '<file...>',
      'policy files, directories of them (*.yaml, *.yml, *.json), or - for standard input',
    )
    .option('--json', 'print the findings as JSON')
    .action(async (paths: string[], options: { json?: boolean }) => {
      const checker = new Checker();
      const seen = new Set<string>();
      for (const path of paths) await addPath(checker, path, seen);
      const files = seen.size;
      const result = checker.finish();
      const { policies, errors, warnings } = result;
      const summary: Summary = { files, policies: policies.length, errors, warnings };
      process.stdout.write(options.json ? asJson(result, summary) : asText(result));
      process.stderr.write(`${summaryLine(summary)}\n`);
      if (errors > 0) process.exitCode = 1;
    });
}

function asJson(result: CheckResult, summary: Summary): string {
  const diagnostics = result.diagnostics.map(({ at, severity, message }) => ({ ...at, severity, message }));
  return `${safeJson({ diagnostics, summary }, 2)}\n`;
}

function asText(result: CheckResult): string {
  return result.diagnostics
    .map(({ at, severity, message }) => `${at.file}:${at.line}:${at.column}: ${severity}: ${message}\n`)
    .join('');
}

function summaryLine({ files, policies, errors, warnings }: Summary): string {
  const count = (n: number, one: string, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
  const valid = count(policies, 'valid policy', 'valid policies');
  return `${count(files, 'file')}: ${valid}, ${count(errors, 'error')}, ${count(warnings, 'warning')}`;
}

/** @param seen the files that were looked at; each is, once */
async function addPath(checker: Checker, path: string, seen: Set<string>): Promise<void> {
  if (path === '-') {
    if (!seen.has(path)) checker.add(await readStdin(), '<stdin>');
    seen.add(path);
    return;
  }
  try {
    if (!statSync(path).isDirectory()) return addFile(checker, path, seen, readNamedBytes);
    const files = policyFiles(path);
    if (files.length === 0)
      checker.fail(path, 'it holds no *.yaml, *.yml or *.json file; name another directory');
    for (const file of files) addFile(checker, file, seen);
  } catch (error) {
    checker.fail(path, unreadable(error));
  }
}

function addFile(checker: Checker, file: string, seen: Set<string>, read = readPolicyBytes): void {
  try {
    const real = realpathSync(file);
    if (seen.has(real)) return;
    seen.add(real);
    checker.add(read(file), file);
  } catch (error) {
    checker.fail(file, unreadable(error));
  }
}

/** No more of it than is needed to know that it is too long. */
async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (length > MAX_FILE_BYTES) break;
  }
  return Buffer.concat(chunks);
}
