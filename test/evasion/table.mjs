// Writes what came of the techniques into SECURITY.md: a column for each kernel that there is a report of, unless the
// table there tells of more kernels. With --merge FROM TO: puts the surroundings of a report into another.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

if (process.argv[2] === '--merge') {
  const [from, to] = process.argv.slice(3).map((path) => (existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}));
  const merged = { ...from, surroundings: { ...to.surroundings, ...from.surroundings } };
  writeFileSync(process.argv[4], JSON.stringify(merged));
  process.exit(0);
}

const project = join(import.meta.dirname, '../..');
const KERNELS = ['6.1', '6.12', 'latest'];
const file = join(project, 'SECURITY.md');
const [before, after = ''] = readFileSync(file, 'utf8').split(/^## Evasion table$/m);
const reports = KERNELS.map((kernel) => join(project, `build/reports/evasion-${kernel}.json`)).filter(existsSync);
const told = (/^\| technique \|(.*)\|$/m.exec(after)?.[1] ?? '').split('|').filter((cell) => cell !== '').length;
if (reports.length === 0 || reports.length < told) {
  console.log(`SECURITY.md keeps its table: it tells of ${told} kernels, and there are ${reports.length} reports`);
  process.exit(0);
}
const results = reports.map((path) => JSON.parse(readFileSync(path, 'utf8')));
const surroundings = Object.keys(results[0].surroundings);

/** One word for all surroundings: what is worst of what could be tried. */
function summary(outcomes) {
  const escaped = outcomes.filter(([, { result }]) => result === 'escaped').map(([name]) => name);
  if (escaped.length > 0) return `**escaped** in ${escaped.length} of ${surroundings.length}`;
  const blocked = outcomes.filter(([, { result }]) => result === 'blocked').length;
  if (blocked > 0) return blocked === surroundings.length ? 'blocked' : `blocked (${blocked})`;
  if (outcomes.length === 0) return 'not tried';
  const reasons = new Set(outcomes.map(([, { reason }]) => reason.replaceAll('|', '\\|')));
  return `n/a: ${[...reasons][0]}`;
}

const techniques = results[0].surroundings[surroundings[0]].map(({ technique }) => technique);
const found = results.map(({ surroundings: of }) =>
  Object.entries(of).map(([name, outcomes]) => [name, new Map(outcomes.map((o) => [o.technique, o]))]),
);
const rows = techniques.map((technique) => {
  const cells = found.map((kernel) =>
    summary(kernel.map(([name, of]) => [name, of.get(technique)]).filter(([, o]) => o !== undefined)),
  );
  return `| ${technique} | ${cells.join(' | ')} |`;
});
const count = (kernel, surrounding, result) =>
  (kernel.surroundings[surrounding] ?? []).filter((o) => o.result === result).length;
const counts = surroundings.map((name) => {
  const cells = results.map((kernel) =>
    ['blocked', 'escaped', 'n/a'].map((result) => count(kernel, name, result)).join(' / '),
  );
  return `| ${name} | ${cells.join(' | ')} |`;
});
const release = results.map(({ kernel }) => kernel);
const rule = `|${'---|'.repeat(1 + release.length)}`;
const text = `## Evasion table

Written by \`make test-evasion\`; not by hand. ${techniques.length} techniques in ${surroundings.length} surroundings.

Blocked / escaped / n/a:

| surrounding | ${release.join(' | ')} |
${rule}
${counts.join('\n')}

"blocked (2)": in the two surroundings where it works without a policy; "n/a": it works in none, with the reason.

| technique | ${release.join(' | ')} |
${rule}
${rows.join('\n')}
`;
writeFileSync(file, before + text);
console.log(`SECURITY.md has the table of ${release.join(', ')}`);
