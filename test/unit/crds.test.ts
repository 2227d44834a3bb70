import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { customResourceDefinition, definitionFiles, KINDS_SERVED } from '../../agent/policy/schema/crds.js';
import {
  MAX_ENFORCED,
  MAX_TROUBLED,
  type NodeEnforcementStatus,
  readEnforced,
  writeEnforced,
} from '../../agent/policy/schema/node-enforcement.js';
import type { HostSpec, WorkloadSpec } from '../../agent/policy/schema/policies.js';
import { list, object, type Shape, text } from '../../agent/policy/schema/shape.js';
import { schemaFaults } from '../chart/kubernetes-schema.js';
import { admit } from '../schema/api-server.js';
import { cost, shapes, typeFault } from '../schema/cel.js';

const folder = fileURLToPath(new URL('../../deploy/crds/', import.meta.url));

test('the files in deploy/crds are what the source gives: if not, `make crds` writes them anew', () => {
  const kept = readdirSync(folder).map((name) => [name, readFileSync(folder + name, 'utf8')]);
  expect(Object.fromEntries(kept)).toEqual(Object.fromEntries(definitionFiles()));
});

test('`kubectl apply` has room for a definition in its annotation, which holds 256 KiB', () => {
  for (const kind of KINDS_SERVED) {
    expect(JSON.stringify(customResourceDefinition(kind)).length).toBeLessThan(128 * 1024);
  }
});

describe.each(KINDS_SERVED)('the definition of $kind', (kind) => {
  const all = [...shapes(kind.shape)];

  test("fits Kubernetes' published schema of definitions", () => {
    // it does not look into what fields are called below a schema; structuralFaults does
    const faults = schemaFaults(JSON.parse(JSON.stringify(customResourceDefinition(kind))));
    expect(faults.filter((fault) => !fault.endsWith('is unknown'))).toEqual([]);
  });

  test('is structural, and says of every field what it is and how long it can be', () => {
    expect(
      all.flatMap(({ shape, path }) => structuralFaults(shape).map((fault) => `${path}: ${fault}`)),
    ).toEqual([]);
  });

  test('has conditions that type-check, say what to do, and cost less than half of what is allowed', {
    timeout: 60_000,
  }, () => {
    let total = 0;
    for (const { shape, path, times } of all) {
      for (const validation of shape['x-kubernetes-validations'] ?? []) {
        const what = `${path}: ${validation.rule}`;
        expect([what, typeFault(shape, validation)]).toEqual([what, undefined]);
        expect(validation.message).toMatch(/^[^\n]{10,200}$/);
        const price = times * cost(shape, validation);
        total += price;
        // the limits are 10 million for a condition and 100 million for a definition
        expect([what, price > 5e6]).toEqual([what, false]);
      }
    }
    expect(total).toBeLessThan(5e7);
  });

  test('has columns that lead somewhere', () => {
    for (const { jsonPath } of kind.columns) {
      if (jsonPath.startsWith('.metadata')) continue;
      const path = jsonPath.replace(/\[.*?\]/g, '[]');
      expect(all.map((found) => found.path)).toContain(path);
    }
  });
});

test('the checks see mistakes', () => {
  const wrong = { rule: "self.a > 'x'", message: 'm' };
  const shape = object('d', {
    a: text('d', { maxLength: 5, pattern: 'a(?=b)' }),
    l: list('d', text('', {}), 9),
  });
  expect(typeFault(object('d', { a: { ...shape.properties.a, type: 'boolean' } as Shape }), wrong)).toContain(
    'overload',
  );
  expect(typeFault(shape, { rule: 'self.a', message: 'm' })).toBe('it is a string, not a bool');
  expect(() => cost(shape, { rule: 'has(self.b)', message: 'm' })).toThrow('no field b');
  expect(() => cost(shape, { rule: "self.l.all(x, x.contains('a'))", message: 'm' })).toThrow(
    'greatest length',
  );
  expect(structuralFaults(shape.properties.a)).toEqual(['pattern a(?=b) is beyond RE2']);
  expect(structuralFaults({ ...shape, oneOf: [] } as Shape)).toEqual(['oneOf is not for structural schemas']);
  expect(structuralFaults(shape.properties.l.items)).toEqual(['no description']);
});

/** https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema */
function structuralFaults(shape: Shape): string[] {
  const faults: string[] = [];
  const known = [
    ...[
      'type',
      'description',
      'properties',
      'additionalProperties',
      'required',
      'items',
      'enum',
      'pattern',
      'format',
    ],
    ...['minLength', 'maxLength', 'minimum', 'maximum', 'maxItems', 'maxProperties', 'nullable', 'default'],
    ...[
      'x-kubernetes-validations',
      'x-kubernetes-list-type',
      'x-kubernetes-list-map-keys',
      'x-kubernetes-map-type',
    ],
  ];
  for (const key of Object.keys(shape))
    if (!known.includes(key)) faults.push(`${key} is not for structural schemas`);
  if (shape.description === '') faults.push('no description');
  if ('properties' in shape && 'additionalProperties' in shape)
    faults.push('properties and additionalProperties');
  if (shape.type === 'string' && shape.pattern !== undefined) {
    if (/\(\?(?!:)|\\[1-9k]/.test(shape.pattern)) faults.push(`pattern ${shape.pattern} is beyond RE2`);
    new RegExp(shape.pattern, 'u');
  }
  if (shape.type === 'object' && 'properties' in shape) {
    for (const name of shape.required ?? [])
      if (!(name in shape.properties)) faults.push(`${name} is required and unknown`);
    for (const [name, field] of Object.entries(shape.properties)) {
      if ('default' in field && shape.required?.includes(name))
        faults.push(`${name} is required and has a default`);
    }
  }
  if (shape.type === 'array') {
    const keys = shape['x-kubernetes-list-map-keys'] ?? [];
    if ((shape['x-kubernetes-list-type'] === 'map') !== keys.length > 0)
      faults.push('a map list without its keys');
    for (const key of keys) {
      const inner = shape.items as { properties?: object; required?: readonly string[] };
      if (!inner.required?.includes(key)) faults.push(`the key ${key} is not required`);
    }
  }
  if ('default' in shape && shape.type === 'string' && !shape.enum?.includes(String(shape.default))) {
    faults.push('a default that is not among the values');
  }
  return faults;
}

describe('types of specs', () => {
  test('follow the shapes', () => {
    const spec = {
      selector: { matchLabels: { app: 'web', empty: null } },
      mode: 'Audit',
      process: { matchPaths: [{ path: '/a', fromSource: [{ dir: '/b/', recursive: true }] }] },
      network: { egress: [{ to: [{ cidr: '10.0.0.0/8' }], ports: [{ port: 1, protocol: 'TCP' }] }] },
      presets: [{ name: 'exec', action: 'Audit' }],
    } as const satisfies WorkloadSpec;
    expect(admit({ apiVersion: 'security.belay.dev/v1', kind: 'WorkloadPolicy', spec }).faults).toEqual([]);
    expectTypeOf<HostSpec>().toHaveProperty('nodeSelector').not.toBeNullable();
    expectTypeOf<WorkloadSpec['mode']>().toEqualTypeOf<'Enforce' | 'Audit' | undefined>();
    expectTypeOf<NonNullable<NodeEnforcementStatus['enforced']>>().toEqualTypeOf<{
      readonly [uid: string]: string;
    }>();
  });
});

describe('NodeEnforcement', () => {
  const uid = (i: number) => `662a4f99-168d-45f5-93a1-${i.toString(16).padStart(12, '0')}`;
  const node = (enforced: number, troubled: number): { status: NodeEnforcementStatus } => ({
    status: {
      node: 'node-1.example.com',
      agentVersion: '0.1.0',
      kernel: '6.12.43+deb13-cloud-amd64',
      schemaVersion: '1',
      absentHooks: [],
      generation: 1234,
      time: '2026-11-24T03:05:22Z',
      policies: 2000,
      enforced: Object.fromEntries(
        Array.from({ length: enforced }, (_, i) => [
          uid(i),
          writeEnforced({ generation: 12, workloads: 110 }),
        ]),
      ),
      troubled: Array.from({ length: troubled }, (_, i) => ({
        uid: uid(i),
        kind: 'WorkloadPolicy',
        namespace: 'n'.repeat(63),
        name: 'p'.repeat(253),
        observedGeneration: 12,
        state: 'Degraded' as const,
        workloads: 110,
        rule: 'process.matchDirectories[999]',
        reason: 'r'.repeat(1024),
      })),
    },
  });
  const bytes = (value: unknown) => Buffer.byteLength(JSON.stringify(value));
  const admitted = (value: object) =>
    admit({ apiVersion: 'security.belay.dev/v1', kind: 'NodeEnforcement', ...value }).faults;

  test('tells of 500 policies in 24 KiB, and is never larger than 340 KiB', () => {
    expect(admitted(node(500, 0))).toEqual([]);
    expect(bytes(node(500, 0))).toBeLessThan(24 * 1024);
    expect(admitted(node(MAX_ENFORCED, MAX_TROUBLED))).toEqual([]);
    expect(bytes(node(MAX_ENFORCED, MAX_TROUBLED))).toBeLessThan(340 * 1024);
  });

  test('reads what it has written, and nothing else', () => {
    const given = { generation: 7, workloads: 12 };
    expect(writeEnforced(given)).toBe('7:12');
    expect(readEnforced('7:12')).toEqual(given);
    for (const other of ['', '7', ':', '7:', '-1:2', '7:12:1', '7:1x'])
      expect(readEnforced(other)).toBeUndefined();
  });
});
