import fc from 'fast-check';
import { expect, it } from 'vitest';
import { collectionOf, fieldsOfLines } from '../../agent/control/policies.js';
import { keepLastGood, type Reading } from '../../agent/policy/last-good.js';
import { readPolicies } from '../../agent/policy/read.js';

it('a line of JSON is told by its field', () => {
  const object = { kind: 'A', metadata: {}, spec: { list: [{ path: '/a', only: true }, 7], none: [] } };
  const lines = JSON.stringify(object, undefined, 1).split('\n');
  const fields = fieldsOfLines(object);
  const fieldOf = (part: string) => fields[lines.findIndex((line) => line.includes(part))];
  expect(fieldOf('"kind"')).toBe('kind');
  expect(fieldOf('"metadata"')).toBe('metadata');
  expect(fieldOf('"path"')).toBe('spec.list[0].path');
  expect(fieldOf('true')).toBe('spec.list[0].only');
  expect(fieldOf('7')).toBe('spec.list[1]');
  expect(fieldOf('"none"')).toBe('spec.none');
});

it('every line of any JSON has a field', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(fieldsOfLines(JSON.parse(JSON.stringify(value)))).toHaveLength(
        JSON.stringify(value, undefined, 1).split('\n').length,
      );
    }),
  );
});

it('the kinds are found where their definitions put them', () => {
  expect(collectionOf('WorkloadPolicy')).toBe('/apis/security.belay.dev/v1/workloadpolicies');
  expect(collectionOf('KubeArmorClusterPolicy')).toBe(
    '/apis/security.kubearmor.com/v1/kubearmorclusterpolicies',
  );
});

const POSTURES = { file: 'audit', network: 'audit', capabilities: 'audit' } as const;

const policy = (name: string, path: string) => `
apiVersion: security.belay.dev/v1
kind: WorkloadPolicy
metadata: {name: ${name}}
spec: {process: {matchPaths: [{path: ${path}}], matchPatterns: [{pattern: "/b*"}]}}
---`;

it('of a text that has changed, each policy that is bad keeps its last good version', () => {
  const read = (text: string) => readPolicies(text, 'p.yaml');
  const errors = ({ diagnostics }: Reading) => diagnostics.filter(({ severity }) => severity === 'error');
  const first = keepLastGood(read(policy('a', '/a1') + policy('b', '/b1')), [], POSTURES).policies;
  expect(first.map(({ name }) => name)).toEqual(['a', 'b']);

  const unreadable = keepLastGood(read(policy('a', '/a2') + policy('b', 'b2')), first, POSTURES);
  expect(unreadable.policies.find(({ name }) => name === 'b')).toBe(first[1]);
  expect(unreadable.policies.find(({ name }) => name === 'a')?.rules[0]).toMatchObject({
    match: { path: '/a2' },
  });
  expect(errors(unreadable).length).toBe(1);

  const huge = policy('b', '/b2').replace('"/b*"', `"/*a${'?'.repeat(14)}"`);
  const unfit = keepLastGood(read(policy('a', '/a2') + huge), first, POSTURES);
  expect(unfit.policies.find(({ name }) => name === 'b')).toBe(first[1]);
  expect(errors(unfit).length).toBe(1);

  // one that a good text no longer has is gone
  expect(keepLastGood(read(policy('a', '/a1')), first, POSTURES).policies.map(({ name }) => name)).toEqual([
    'a',
  ]);
});
