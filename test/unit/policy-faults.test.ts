import { describe, expect, test } from 'vitest';
import { Checker } from '../../agent/policy/check.js';
import type { Diagnostic } from '../../agent/policy/model.js';
import { readPolicies } from '../../agent/policy/read.js';
import { belay, type Case, doubts, faults, process, unmark } from './policy-cases.js';

function expectReports(severity: Diagnostic['severity'], { text: marked, messages }: Case): void {
  const { text, places } = unmark(marked);
  const { policies, diagnostics } = readPolicies(text, 'p.yaml');
  const seen = diagnostics.filter((found) => found.severity === severity);
  expect(seen.map(({ at }) => `${at.line}:${at.column}`)).toEqual(places);
  expect(messages).toHaveLength(places.length);
  for (const [i, message] of messages.entries()) expect(seen[i]?.message).toContain(message);
  for (const { at } of seen) expect(at.file).toBe('p.yaml');
  if (severity === 'error') expect(policies).toEqual([]);
}

describe('a fault is reported at its line and column, and the policy rejected', () => {
  test.each(faults)('$name', (given) => expectReports('error', given));
});

describe('a doubt is a warning at its place', () => {
  test.each(doubts)('$name', (given) => {
    expectReports('warning', given);
    expect(
      readPolicies(unmark(given.text).text, 'p.yaml').diagnostics.filter((d) => d.severity === 'error'),
    ).toEqual([]);
  });
});

test('one broken document does not take the others with it, and all faults come in one run', () => {
  const good = process('path: /a');
  const { policies, diagnostics } = readPolicies(
    [good, 'a: [', process('path: b'), good].join('\n---\n'),
    'p.yaml',
  );
  expect(policies).toHaveLength(2);
  expect(diagnostics.map(({ at }) => at.line)).toEqual([11, 20]);
});

test('a fault behind lines that YAML cannot make sense of is told on its own line', () => {
  const { diagnostics } = readPolicies('a: b\n}: c\n  d\n e: f\n---\nkind: [\n', 'p.yaml');
  expect(diagnostics.map(({ at }) => `${at.line}:${at.column}`)).toEqual(['2:1', '6:7']);
});

test('a text of more than 1 MiB is refused unread', () => {
  const start = performance.now();
  const { policies, diagnostics } = readPolicies('a: b\n'.repeat(20_000_000), 'big.yaml');
  expect(policies).toEqual([]);
  expect(diagnostics.map(({ message }) => message)).toEqual([expect.stringContaining('longer than 1 MiB')]);
  expect(performance.now() - start).toBeLessThan(2000);
});

test.each([
  ['an unknown field', '"x\\r\\e[2J": 1'],
  ['a field that stands twice', '"x\\u2028": 1\n"x\\u2028": 1'],
  ['an alias', 'a: *x\u0007'],
])('no name breaks the line or the terminal that it is told on: %s', (_, text) => {
  const { diagnostics } = readPolicies(`kind: WorkloadPolicy\n${text}\n`, 'p.yaml');
  expect(diagnostics.map(({ message }) => message).join()).toContain('\\u');
  for (const { message } of diagnostics) expect(message).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u);
});

test('faults without number are not all told', () => {
  const checker = new Checker();
  checker.add(Buffer.from('a: b\n'.repeat(40_000)), 'p.yaml');
  const { diagnostics } = checker.finish();
  expect(diagnostics).toHaveLength(10_001);
  expect(diagnostics.at(-1)).toMatchObject({
    severity: 'error',
    message: expect.stringContaining('more follows'),
  });
});

test('a mapping with as many fields as there can be is merged', () => {
  const fields = Array.from({ length: 68_000 }, () => 'a: ,').join('');
  const { policies } = readPolicies(`x: &x {${fields}}\n<<: *x\n`, 'p.yaml');
  expect(policies).toEqual([]);
});

test('aliases that expand without end are refused', () => {
  const levels = Array.from({ length: 9 }, (_, i) => `  - &l${i + 1} {<<: [${`*l${i},`.repeat(9)}]}`);
  const bomb = `x:\n  - &l0 {path: /a}\n${levels.join('\n')}\n`;
  const text = `${bomb}${process('*l9')}`;
  const { policies, diagnostics } = readPolicies(text, 'p.yaml');
  expect(policies).toEqual([]);
  expect(diagnostics.some(({ message }) => message.includes('expand without end'))).toBe(true);
});

test.each([
  ['brackets', `a: b\nspec: ${'['.repeat(100_000)}`, '2:107'],
  ['dashes', `a: b\nspec:\n  ${'- '.repeat(100_000)}`, '3:3'],
  ['colons', `a: b\nspec:\n  ${': '.repeat(100_000)}`, '3:3'],
  ['keys', `a: b\nspec:\n  ${'?\t'.repeat(100_000)}`, '3:3'],
])('YAML that nests without end is refused before it is parsed: %s', (_, text, place) => {
  const start = performance.now();
  const { policies, diagnostics } = readPolicies(text, 'p.yaml');
  expect(policies).toEqual([]);
  expect(diagnostics.map(({ at, message }) => `${at.line}:${at.column} ${message}`)).toEqual([
    expect.stringContaining(`${place} the YAML nests too deeply`),
  ]);
  expect(performance.now() - start).toBeLessThan(1000);
});

test('brackets in values and comments are no nesting', () => {
  const rule = '    - {path: "/etc/[" } # [{\n';
  const { diagnostics } = readPolicies(`${process('/a').trimEnd()}\n${rule.repeat(120)}`, 'p.yaml');
  expect(diagnostics.filter(({ message }) => message.includes('nests'))).toEqual([]);
});

const MIB = 1 << 20;
const fill = (part: string, length = MIB) => part.repeat(length / part.length);

test.each([
  ['brackets', `a: [${fill('[a],', MIB - 8)}`, '1:280000'],
  ['brackets that are not open', `a: b\n${fill(']', MIB - 8)}`, '2:349993'],
  ['missing commas', `a: [${fill('[] ', MIB - 8)}`, '1:349999'],
  ['dashes', fill('-\n'), '175000:2'],
  ['documents', fill('---\n'), '175000:4'],
])('more YAML than policies have is refused where it becomes too much: %s', (_, text, place) => {
  const { policies, diagnostics } = readPolicies(text, 'p.yaml');
  expect(policies).toEqual([]);
  expect(diagnostics.map(({ at, message }) => `${at.line}:${at.column} ${message}`)).toEqual([
    expect.stringContaining(`${place} more than 350000 words and marks of YAML`),
  ]);
});

test.each([
  ['escapes', `a: "${fill('\\q', MIB - 8)}"`],
  ['brackets that nest', fill(`- ${'['.repeat(99)}${']'.repeat(99)}\n`, 120_000)],
])('YAML of faults costs no more than such policies do: %s', (_, text) => {
  const before = globalThis.process.cpuUsage();
  const { policies, diagnostics } = readPolicies(text, 'p.yaml');
  expect(policies).toEqual([]);
  expect(diagnostics).not.toEqual([]);
  // in some 1 s of a processor; it took ten times that
  expect(globalThis.process.cpuUsage(before).user / 1000).toBeLessThan(5000);
  expect(Error.stackTraceLimit).toBeGreaterThan(0);
});

test('policies of the greatest length are read', () => {
  const rule = { path: '/usr/bin/program', ownerOnly: true, fromSource: [{ path: '/bin/sh' }] };
  const matchPaths = Array.from({ length: 7500 }, () => rule);
  const text = JSON.stringify({ kind: 'WorkloadPolicy', spec: { process: { matchPaths } } }, undefined, 1);
  expect(text.length).toBeGreaterThan(0.95 * MIB);
  const { diagnostics } = readPolicies(text, 'p.yaml');
  expect(diagnostics.filter(({ message }) => message.includes('words and marks'))).toEqual([]);
});

test('YAML that nests deeply is read or refused, at any depth', () => {
  for (let depth = 10; depth < 1000; depth += 45) {
    const { policies } = readPolicies(
      belay(`  file: ${'{a: '.repeat(depth)}1${'}'.repeat(depth)}`),
      'p.yaml',
    );
    expect(policies).toEqual([]);
  }
});

test('unknown fields without number are not all told', () => {
  const fields = Array.from({ length: 5000 }, (_, i) => `  field${i}: 1\n`).join('');
  const { diagnostics } = readPolicies(belay(fields), 'p.yaml');
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toHaveLength(101);
});
