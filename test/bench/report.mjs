/** Makes RESULTS.md from what the benchmarks printed: node test/bench/report.mjs KERNEL DIRECTORY */
import { readFileSync } from 'node:fs';

const [kernel, directory] = process.argv.slice(2);
const lines = (name) =>
  readFileSync(`${directory}/${name}`, 'utf8').split('\n').filter((l) => l.startsWith('{')).map((l) => JSON.parse(l));
const cost = lines('cost');
const operations = [...new Set(cost.map((c) => c.operation))];
const value = (variant, rules, operation) =>
  cost.find((c) => c.variant === variant && c.rules === rules && c.operation === operation)?.value;
const sizes = [...new Set(cost.filter((c) => c.variant === 'protected, cached').map((c) => c.rules))];
const rows = [
  ['no agent', 0], ['no agent, uncached', 0], ['empty programs', 0], ['unprotected', 0],
  ...sizes.map((n) => ['protected, cached', n]),
  ...sizes.map((n) => ['protected, uncached', n]),
];
const out = [];
out.push('# What enforcement costs', '');
out.push(`Measured by \`make bench KERNEL=${kernel}\`; ${new Date().toISOString().slice(0, 10)}.`, '');
out.push('## Instructions per operation', '');
out.push(
  "Median, counted by QEMU's icount (`-icount shift=0`), where a nanosecond of the guest's clock is one instruction; cache",
  'misses are not modelled. `empty programs`: the same hooks, each with a program that returns 0. The columns',
  'give what is added to the run without an agent, and in brackets the ratio to it.',
  'uncached: a file is renamed before each open, which empties every verdict cache, without an agent too.', '',
);
out.push(`| | rules | ${operations.join(' | ')} |`, `|---|---|${operations.map(() => '---').join('|')}|`);
for (const [variant, rules] of rows) {
  const cells = operations.map((operation) => {
    const base = value(variant.endsWith('uncached') ? 'no agent, uncached' : 'no agent', 0, operation);
    const mine = value(variant, rules, operation);
    if (mine === undefined) return '';
    return variant.startsWith('no agent') ? String(mine) : `${mine >= base ? '+' : ''}${mine - base} (${(mine / base).toFixed(3)})`;
  });
  out.push(`| ${variant} | ${variant.startsWith('protected') ? rules : ''} | ${cells.join(' | ')} |`);
}
const open = operations[0];
const deep = operations[1];
const added = (variant, rules, operation) => value(variant, rules, operation) - value('no agent', 0, operation);
const most = sizes.at(-1);
out.push('', '| aim | measured |', '|---|---|');
out.push(
  `| an unprotected task pays at most 1.5 × an empty program (open) | ${(added('unprotected', 0, open) / added('empty programs', 0, open)).toFixed(2)} × |`,
  `| a cached open costs at most 400 more than an empty program | ${value('protected, cached', 1, open) - value('empty programs', 0, open)} |`,
  `| the same at depth 15 (±3 %) | ${value('protected, cached', 1, deep) - value('empty programs', 0, deep)} |`,
  `| the same with ${most} rules (±3 %) | ${value('protected, cached', most, open) - value('empty programs', 0, open)} |`,
);
out.push('', '## Compiling', '', '`node test/bench/compile.mjs 10000`, on the machine itself:', '', '```');
out.push(readFileSync(`${directory}/compile`, 'utf8').trim(), '```');
out.push('', '## Memory', '', '10 000 rules in 200 policies on 100 workloads, 20 policies each (`test/bench/footprint.mjs`):', '');
out.push('| | rules | |', '|---|---|---|');
for (const f of lines('footprint')) out.push(`| ${f.what} | ${f.rules} | ${f.value} ${f.unit} |`);
console.log(out.join('\n'));
