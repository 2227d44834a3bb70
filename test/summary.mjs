// Adds up Vitest's JSON reports: node test/summary.mjs [--also-failed N] FOLDER
// Prints what failed, a line for each report, and `N passed, M failed` at the end; exits 1 if anything failed.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs, stripVTControlCharacters } from 'node:util';

const { values, positionals } = parseArgs({
  options: { 'also-failed': { type: 'string', default: '0' } },
  allowPositionals: true,
});
const folder = positionals[0];
if (folder === undefined) throw new Error('usage: summary.mjs [--also-failed N] FOLDER');

/** The first lines of what a failed test said, without colours, so that it can be judged from the last lines of a log. */
function why({ failureMessages = [] }) {
  const lines = stripVTControlCharacters(failureMessages.join('\n')).split('\n').filter((line) => line.trim() !== '');
  return lines.slice(0, 12).map((line) => `\n    ${line.slice(0, 200)}`).join('');
}

/** The last lines of what a run said that left no report. */
function lastWords(file) {
  const log = file.replace(/json$/, 'log');
  const lines = existsSync(log) ? stripVTControlCharacters(readFileSync(log, 'utf8')).trimEnd().split('\n') : [];
  return lines.slice(-12).map((line) => `\n    ${line.slice(0, 200)}`).join('');
}

/** A report that cannot be read is a run that died: it counts as one failure. */
function count(file) {
  let report;
  try {
    report = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return { passed: 0, failed: 1, skipped: 0, failures: [`(the run ended without a report)${lastWords(file)}`] };
  }
  const tests = report.testResults.flatMap((suite) => suite.assertionResults);
  const failures = tests.filter((test) => test.status === 'failed').map((test) => `${test.fullName}${why(test)}`);
  // a file that fails outside its tests: it does not load, or a hook throws
  for (const suite of report.testResults) {
    if (suite.status === 'failed' && !suite.assertionResults.some((test) => test.status === 'failed'))
      failures.push(suite.name);
  }
  if (!report.success && failures.length === 0) failures.push('(the run failed outside its tests)');
  const passed = tests.filter((test) => test.status === 'passed').length;
  return { passed, failed: failures.length, skipped: tests.length - passed - failures.length, failures };
}

let passed = 0;
let failed = Number(values['also-failed']);
for (const file of readdirSync(folder).filter((name) => name.endsWith('.json')).sort()) {
  const of = count(join(folder, file));
  const name = basename(file, '.json');
  for (const failure of of.failures) console.log(`failed: ${name}: ${failure}`);
  const skipped = of.skipped > 0 ? `, ${of.skipped} skipped` : '';
  console.log(`${name}: ${of.passed} passed, ${of.failed} failed${skipped}`);
  passed += of.passed;
  failed += of.failed;
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
