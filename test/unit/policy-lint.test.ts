import { expect, test } from 'vitest';
import { lintPolicies } from '../../agent/policy/lint.js';
import type { Policy } from '../../agent/policy/model.js';
import { readPolicies } from '../../agent/policy/read.js';

function policies(...specs: string[]): Policy[] {
  return specs.flatMap((spec, i) => {
    const text = `apiVersion: security.belay.dev/v1\nkind: WorkloadPolicy\nmetadata: {name: p${i}, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n${spec}`;
    const read = readPolicies(text, `p${i}.yaml`);
    expect(read.policies).toHaveLength(1);
    return read.policies;
  });
}

/** `file:line message` of every doubt. */
function doubts(...specs: string[]): string[] {
  return lintPolicies(policies(...specs)).map(({ at, message, severity }) => {
    expect(severity).toBe('warning');
    return `${at.file}:${at.line} ${message}`;
  });
}

const rules = (section: string, ...items: string[]) =>
  `  ${section}:\n    matchPaths:\n${items.map((item) => `    - {${item}}\n`).join('')}`;

test('Allow and Block of the same object contradict each other', () => {
  expect(doubts(rules('file', 'path: /a, action: Allow', 'path: /a, action: Block'))).toEqual([
    expect.stringMatching(/^p0\.yaml:9 file\.matchPaths\[1\] says Block where the rule at line 8 says Allow/),
  ]);
});

test('a contradiction across policies is found when they reach the same workloads', () => {
  const [allow, kill] = [
    rules('process', 'path: /a, action: Allow'),
    rules('process', 'path: /a, action: Kill'),
  ];
  expect(doubts(allow, kill)).toEqual([
    expect.stringMatching(/^p1\.yaml:8 .* the rule at p0\.yaml:8 says Allow/),
  ]);
  const [a, b] = policies(allow, kill);
  if (a === undefined || b === undefined) throw new Error('unreachable');
  const elsewhere = { ...b, selector: { ...b.selector, labels: new Map([['app', 'api']]) } };
  expect(lintPolicies([a, elsewhere])).toEqual([]);
});

test.each([
  ['Block', 'Audit', 'Block counts, and the audit never reports'],
  ['Audit', 'Kill', 'Kill counts, and the audit never reports'],
  ['Kill', 'Block', 'Kill counts, being the strictest'],
  ['Block', 'Allow', 'the denial wins'],
])('of %s and %s for the same object it is said which counts', (a, b, counts) => {
  const text = `p0.yaml:9 process.matchPaths[1] says ${b} where the rule at line 8 says ${a}; ${counts}, so leave one out`;
  expect(doubts(rules('process', `path: /a, action: ${a}`, `path: /a, action: ${b}`))).toEqual([text]);
});

test.each([
  ['sources differ', 'path: /a, action: Allow, fromSource: [{path: /b}]', 'path: /a'],
  ['a condition refines what is allowed', 'path: /a, action: Allow', 'path: /a, readOnly: true'],
  ['an audit has no say', 'path: /a, action: Allow', 'path: /a, action: Audit'],
  ['a condition refines what is audited', 'path: /a, action: Audit', 'path: /a, readOnly: true'],
  ['the objects differ', 'path: /a, action: Allow', 'path: /b'],
])('no contradiction where %s', (_, a, b) => {
  expect(doubts(rules('file', a, b))).toEqual([]);
});

test('a repeated rule is told once for a policy', () => {
  expect(
    doubts(rules('file', 'path: /a', 'path: /a', 'path: /b', 'path: /b', 'path: /b, ownerOnly: true')),
  ).toEqual([expect.stringMatching(/^p0\.yaml:9 .*repeats the rule at line 8.*so do 1 more/)]);
});

test('two policies of one name', () => {
  const [a] = policies(rules('file', 'path: /a'));
  const [b] = policies(rules('file', 'path: /b'));
  if (a === undefined || b === undefined) throw new Error('unreachable');
  expect(lintPolicies([a, b]).map(({ message }) => message)).toEqual([
    expect.stringContaining('WorkloadPolicy "p0" is already defined at line 1'),
  ]);
});

test.each([
  ['path: /bin/ls', '/usr/bin/ls'],
  ['path: /sbin/route', '/usr/sbin/route'],
  ['path: /usr/bin/sh', '/usr/bin/dash'],
  ['execname: sh', '/usr/bin/dash'],
  ['path: /var/run/docker.sock', '/run/docker.sock'],
  ['path: /a, fromSource: [{path: /bin/bash}]', '/usr/bin/bash'],
])('a rule on a symbolic link is doubted once, and its target named: %s', (item, target) => {
  expect(doubts(rules('process', item, 'path: /sbin/other'))).toEqual([
    expect.stringMatching(
      new RegExp(`^p0\\.yaml:8 .*link.*${target}.*so do 1 more|^p0\\.yaml:8 .*link.*${target}`),
    ),
  ]);
});

test('a rule on a link is fine when the policy names its target too', () => {
  expect(doubts(rules('process', 'path: /bin/ls', 'path: /usr/bin/ls'))).toEqual([]);
  expect(doubts(rules('process', 'path: /bin/sh', 'path: /usr/bin/bash'))).toEqual([]);
});

test.each([
  ['a wildcard in a path', rules('file', 'path: "/home/*/.bashrc"'), 'use matchPatterns'],
  [
    'a command line as a pattern',
    '  process: {matchPatterns: [{pattern: "/*/rm -rf *"}]}\n',
    'not command lines',
  ],
  ['a pattern that ends in a slash', '  file: {matchPatterns: [{pattern: "/**/x/"}]}\n', 'write "/**/x/**"'],
])('%s', (_, spec, message) => {
  expect(doubts(spec)).toEqual([expect.stringContaining(message)]);
});
