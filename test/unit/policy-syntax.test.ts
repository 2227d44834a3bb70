import { expect, test } from 'vitest';
import { readPolicies } from '../../agent/policy/read.js';

test.each([
  ['kind: a\nname: "abc\nspec: 2\nmore: [1]\n', '2:7', 'the quote " is never closed'],
  ["kind: 'abc\nspec: 2\n", '1:7', "the quote ' is never closed"],
  ['kind: a\nlist: [1, 2\nspec: 3\nmore: 4\n', '2:7', 'the bracket [ is never closed'],
  ['metadata: {name: web, namespace: shop\nspec:\n  x: 1\n', '1:11', 'the bracket { is never closed'],
  ['a: {b: [1, 2}\nc: 3\n', '1:8', 'the bracket [ is never closed'],
  ['a: [{b: 1}, {c: [1]\nd: 3\n', '1:13', 'the bracket { is never closed'],
  ['a: {b: "x}\nc: 1\n', '1:8', 'the quote " is never closed'],
  ['a:\n\tb: 1\n', '2:1', 'a tab does not indent'],
  ['a:\n  b: 1\n c: 2\n', '3:1', 'this is indented like nothing above it'],
  ['a: b: c\n', '1:4', 'a second colon on one line'],
  ['a: 1\nfoo\nb: 2\n', '2:1', 'there is no colon after this'],
  ['a: [1]]\nb: 2\n', '1:7', '"]" does not belong here'],
  ['a: {b: 1 c: 2}\n', '1:8', 'commas stand between entries'],
  ['a: @b\n', '1:4', 'a value cannot begin with @'],
  ['a: "\\q"\n', '1:5', 'there is no such escape'],
  ['a: *\n', '1:4', '* needs a name after it'],
])('a fault of YAML is told once, where it begins: %j', (text, place, what) => {
  const { diagnostics } = readPolicies(text, 'p.yaml');
  const told = diagnostics.map(({ at, message }) => [`${at.line}:${at.column}`, message]);
  expect(told).toEqual([
    [place, expect.stringMatching(/^YAML syntax: .*; the policies of this document are not read$/)],
  ]);
  expect(told[0]?.[1]).toContain(what);
});
