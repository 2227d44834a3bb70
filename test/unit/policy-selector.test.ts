import { describe, expect, test } from 'vitest';
import type { Policy } from '../../agent/policy/model.js';
import { readPolicies } from '../../agent/policy/read.js';
import { nameMatches, type SelectableWorkload, selects } from '../../agent/policy/selector.js';

function policy(kind: string, spec: string): Policy {
  const api = kind.startsWith('KubeArmor') ? 'security.kubearmor.com/v1' : 'security.belay.dev/v1';
  const text = `apiVersion: ${api}\nkind: ${kind}\nmetadata: {name: p, namespace: shop}\nspec: ${spec}`;
  const { policies } = readPolicies(text, 'p.yaml');
  if (policies[0] === undefined) throw new Error(`no policy: ${text}`);
  return policies[0];
}

const web: SelectableWorkload = {
  namespace: 'shop',
  name: 'web-1',
  container: 'nginx',
  labels: new Map([
    ['app', 'web'],
    ['tier', 'front'],
  ]),
};
const node: SelectableWorkload = {
  namespace: '',
  name: 'node-7',
  container: '',
  labels: new Map([['zone', 'a']]),
  host: true,
};

const expressions = (text: string) => `{selector: {matchExpressions: [${text}]}}`;

describe('a policy reaches a workload when all parts of its selector hold', () => {
  test.each([
    ['all labels', 'WorkloadPolicy', '{selector: {matchLabels: {app: web, tier: front}}}', true],
    ['one label is different', 'WorkloadPolicy', '{selector: {matchLabels: {app: web, tier: back}}}', false],
    ['a label is missing', 'WorkloadPolicy', '{selector: {matchLabels: {other: ""}}}', false],
    ['an empty selector', 'WorkloadPolicy', '{selector: {}}', true],
    ['no selector', 'KubeArmorPolicy', '{action: Block}', true],
    ['its container', 'WorkloadPolicy', '{selector: {}, containers: [nginx]}', true],
    ['a container by glob', 'WorkloadPolicy', '{selector: {}, containers: [sidecar-*, ng?nx]}', true],
    ['another container', 'WorkloadPolicy', '{selector: {}, containers: [sidecar-*]}', false],
    [
      'a container by label',
      'KubeArmorPolicy',
      '{selector: {matchLabels: {kubearmor.io/container.name: "[nginx]"}}}',
      true,
    ],
    [
      'another by label',
      'KubeArmorPolicy',
      '{selector: {matchLabels: {kubearmor.io/container.name: "[a, b]"}}}',
      false,
    ],
    [
      'In, one of',
      'KubeArmorPolicy',
      expressions('{key: label, operator: In, values: [a=b, app=web]}'),
      true,
    ],
    [
      'In, none of',
      'KubeArmorPolicy',
      expressions('{key: label, operator: In, values: [a=b, app=we]}'),
      false,
    ],
    ['NotIn, none of', 'KubeArmorPolicy', expressions('{key: label, operator: NotIn, values: [a=b]}'), true],
    [
      'NotIn, one of',
      'KubeArmorPolicy',
      expressions('{key: label, operator: NotIn, values: [a=b, tier=front]}'),
      false,
    ],
    [
      'In and NotIn',
      'KubeArmorPolicy',
      expressions(
        '{key: label, operator: In, values: [app=web]}, {key: label, operator: NotIn, values: [tier=front]}',
      ),
      false,
    ],
    ['Exists', 'WorkloadPolicy', expressions('{key: app, operator: Exists}'), true],
    ['DoesNotExist', 'WorkloadPolicy', expressions('{key: app, operator: DoesNotExist}'), false],
    ['a key In', 'WorkloadPolicy', expressions('{key: app, operator: In, values: [web, api]}'), true],
    [
      'a key NotIn where it is absent',
      'WorkloadPolicy',
      expressions('{key: none, operator: NotIn, values: [a]}'),
      true,
    ],
    ['cluster, any namespace', 'KubeArmorClusterPolicy', '{selector: {}}', true],
    [
      'cluster, In',
      'KubeArmorClusterPolicy',
      expressions('{key: namespace, operator: In, values: [shop]}'),
      true,
    ],
    [
      'cluster, not In',
      'KubeArmorClusterPolicy',
      expressions('{key: namespace, operator: In, values: [bank]}'),
      false,
    ],
    [
      'cluster, NotIn',
      'ClusterWorkloadPolicy',
      expressions('{key: namespace, operator: NotIn, values: [bank]}'),
      true,
    ],
    [
      'cluster, its NotIn',
      'ClusterWorkloadPolicy',
      expressions('{key: namespace, operator: NotIn, values: [shop]}'),
      false,
    ],
    [
      'cluster, namespace and label',
      'KubeArmorClusterPolicy',
      expressions(
        '{key: namespace, operator: In, values: [shop]}, {key: label, operator: In, values: [app=api]}',
      ),
      false,
    ],
    ['a host policy', 'HostPolicy', '{nodeSelector: {}}', false],
  ])('%s', (_, kind, spec, reached) => {
    expect(selects(policy(kind, spec), web)).toBe(reached);
  });

  test('another namespace is never reached by a namespaced policy', () => {
    expect(selects(policy('WorkloadPolicy', '{selector: {}}'), { ...web, namespace: 'bank' })).toBe(false);
  });
});

describe('host policies reach hosts only', () => {
  test.each([
    ['{nodeSelector: {}}', true],
    ['{nodeSelector: {matchLabels: {zone: a}}}', true],
    ['{nodeSelector: {matchLabels: {zone: b}}}', false],
    ['{nodeSelector: {matchLabels: {zone: "*"}}}', true],
    ['{nodeSelector: {matchLabels: {none: "*"}}}', false],
    ['{nodeSelector: {matchLabels: {kubernetes.io/hostname: "*"}}}', true],
    ['{nodeSelector: {matchLabels: {kubernetes.io/hostname: node-7}}}', true],
    ['{nodeSelector: {matchLabels: {kubernetes.io/hostname: node-8}}}', false],
    ['{nodeSelector: {matchLabels: {kubearmor.io/hostnamereg: "^node-[0-9]+$"}}}', true],
    ['{nodeSelector: {matchLabels: {kubearmor.io/hostnamereg: "^edge-"}}}', false],
  ])('%s', (spec, reached) => {
    expect(selects(policy('KubeArmorHostPolicy', spec), node)).toBe(reached);
  });

  test('and pods are not hosts', () => {
    expect(selects(policy('ClusterWorkloadPolicy', '{selector: {}}'), node)).toBe(false);
  });
});

test.each([
  ['*', '', true],
  ['a*', 'a', true],
  ['*-proxy', 'istio-proxy', true],
  ['*a*b', 'xaxbxab', true],
  ['*a*b', 'xaxbxa', false],
  ['?', '', false],
  ['a?c', 'abc', true],
  ['abc', 'abcd', false],
])('the name glob %s on "%s"', (glob, name, matches) => {
  expect(nameMatches(glob, name)).toBe(matches);
});
