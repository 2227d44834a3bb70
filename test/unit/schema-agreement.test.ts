import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { policyFiles } from '../../agent/policy/files.js';
import { readPolicies } from '../../agent/policy/read.js';
import { KINDS_SERVED } from '../../agent/policy/schema/crds.js';
import type { Shape } from '../../agent/policy/schema/shape.js';
import { admit } from '../schema/api-server.js';
import { doubts, faults, unmark } from './policy-cases.js';

/**
 * `belay check` and the API server must not tell people different things: what the one accepts the other does, and
 * what is wrong in its shape both refuse. Where a schema cannot see a fault, the place is listed here with the reason.
 */

const root = fileURLToPath(new URL('../..', import.meta.url));

/** As kubectl reads YAML, and in Belay's kinds. */
function objectOf(text: string): unknown {
  const object = parse(text, { version: '1.1', merge: true, maxAliasCount: -1 });
  if (typeof object !== 'object' || object === null) return object;
  const kind = object.apiVersion === 'security.kubearmor.com/v1' ? BELAY[object.kind] : undefined;
  return kind === undefined ? object : { ...object, apiVersion: 'security.belay.dev/v1', kind };
}

const BELAY: Readonly<Record<string, string>> = {
  KubeArmorPolicy: 'WorkloadPolicy',
  KubeArmorClusterPolicy: 'ClusterWorkloadPolicy',
  KubeArmorHostPolicy: 'HostPolicy',
};

function check(text: string) {
  const { diagnostics } = readPolicies(text, 'p.yaml');
  const of = (wanted: string) =>
    diagnostics.filter(({ severity }) => severity === wanted).map(({ message }) => message);
  return { errors: of('error'), warnings: of('warning') };
}

test('the example policies are accepted, and only their defaults are added', { timeout: 60_000 }, () => {
  const files = policyFiles(`${root}deploy/examples`);
  expect(files.length).toBeGreaterThanOrEqual(5);
  for (const file of files) {
    const given = objectOf(readFileSync(file, 'utf8')) as { spec: object };
    const { object, faults } = admit(given);
    expect([file, faults]).toEqual([file, []]);
    expect(object).toEqual({
      ...given,
      spec: { action: 'Block', mode: 'Enforce', severity: 1, ...given.spec },
    });
  }
});

const corpus = process.env.BELAY_CORPUS ?? `${root}../shared/corpus/kubearmor`;
const present = existsSync(corpus);
if (!present) {
  process.stderr.write(
    `\n*** SKIPPED: the corpus of public policies is not at ${corpus}; set BELAY_CORPUS to its directory ***\n\n`,
  );
}

/** Faults of text, which are gone once YAML has been parsed; and what is a fault in Belay's kinds only. */
const PUBLIC_EXCEPTIONS = /stands twice|never matches/;

test.skipIf(!present)(
  'public policies, as Belay kinds, are accepted where `belay check` accepts them',
  { timeout: 60_000 },
  () => {
    let accepted = 0;
    let refused = 0;
    for (const name of readdirSync(corpus).filter((file) => file.endsWith('.yaml'))) {
      const text = readFileSync(`${corpus}/${name}`, 'utf8');
      const { errors, warnings } = check(text);
      if ([...errors, ...warnings].some((message) => PUBLIC_EXCEPTIONS.test(message))) continue;
      const { faults } = admit(objectOf(text));
      expect([name, errors.length === 0, faults]).toEqual([name, faults.length === 0, faults]);
      if (errors.length === 0) accepted++;
      else refused++;
    }
    expect(accepted).toBeGreaterThan(200);
    expect(refused).toBeGreaterThan(15);
  },
);

/** What no schema sees, and why. */
const UNSEEN: Readonly<Record<string, string>> = {
  ...because('the API server looks at metadata by itself, before the schema', [
    'no name',
    'no metadata',
    'a name with capitals',
    'a long name',
    'a bad namespace',
  ]),
  'Kill in a KubeArmor policy': 'it is a fault in that kind only',
  'a pattern with an open bracket': 'a pattern is parsed, which no expression does',
  ...because('arithmetic on addresses came to CEL with Kubernetes 1.31', [
    'host bits',
    'host bits in IPv6',
    'an exception outside',
  ]),
  'a bad host expression': 'CEL cannot ask whether a text is a regular expression',
};

function because(reason: string, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, reason]));
}

/** Texts that are no one object; kubectl refuses them itself. */
const NO_OBJECT = ['a syntax error', 'an unclosed bracket', 'an alias of nothing', 'duplicate keys'];

describe('what `belay check` refuses is refused', () => {
  test.each(faults.filter(({ name }) => !NO_OBJECT.includes(name)))('$name', ({ name, text }) => {
    const { faults } = admit(objectOf(unmark(text).text));
    if (name in UNSEEN) expect(faults).toEqual([]);
    else expect(faults).not.toEqual([]);
  });

  test('and the exceptions are still there', () => {
    const names = faults.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([...Object.keys(UNSEEN), ...NO_OBJECT]));
    for (const { text } of faults.filter(({ name }) => NO_OBJECT.includes(name))) {
      expect(() => objectOf(unmark(text).text)).toThrow();
    }
  });
});

describe('what `belay check` only doubts is accepted', () => {
  test.each(doubts)('$name', ({ name, text }) => {
    const { faults } = admit(objectOf(unmark(text).text));
    // in Belay's own kinds, that is an error
    if (name === 'a relative pattern in a KubeArmor policy') expect(faults).not.toEqual([]);
    else expect(faults).toEqual([]);
  });
});

/** Errors of `belay check` that a schema cannot have. */
const BEYOND_SCHEMAS = [
  /is not a pattern/,
  /has bits set after the prefix/,
  /lies outside the cidr/,
  /is not an address block/,
  /is not a regular expression/,
  /bytes, the kernel's limit/,
  /is not a file's name/,
];

describe('any document', () => {
  test.each(KINDS_SERVED.filter(({ kind }) => kind !== 'NodeEnforcement'))(
    'of kind $kind is accepted by both, or refused by both',
    { timeout: 300_000 },
    ({ kind, shape }) => {
      const spec = 'properties' in shape ? shape.properties.spec : undefined;
      if (spec === undefined) throw new Error('no spec');
      let accepted = 0;
      let refused = 0;
      fc.assert(
        fc.property(values(spec), (written) => {
          const object = {
            apiVersion: 'security.belay.dev/v1',
            kind,
            metadata: { name: 'p' },
            spec: written,
          };
          const { errors } = check(JSON.stringify(object));
          const { faults } = admit(object);
          if (errors.length === 0) {
            accepted++;
            expect(faults).toEqual([]);
          } else if (!errors.some((message) => BEYOND_SCHEMAS.some((known) => known.test(message)))) {
            refused++;
            expect([errors, faults]).not.toEqual([errors, []]);
          }
        }),
        { numRuns: 1500 },
      );
      // neither side may be there by chance only
      expect(accepted).toBeGreaterThan(300);
      expect(refused).toBeGreaterThan(150);
    },
  );
});

/** Documents of a shape, for the most part; now and then a field is unknown, or has another one's value. */
function values(shape: Shape): fc.Arbitrary<unknown> {
  switch (shape.type) {
    case 'boolean':
      return mostly(fc.boolean(), fc.constantFrom('true', 1, {}));
    case 'integer':
      return mostly(
        fc.constantFrom(shape.minimum, shape.maximum, 5),
        fc.constantFrom(shape.minimum - 1, shape.maximum + 1, '5', 1.5),
      );
    case 'string':
      return mostly(fitting(shape), fc.constantFrom(...TEXTS, 5, true, []));
    case 'array':
      return mostly(fc.array(values(shape.items), { maxLength: 2 }), fc.constantFrom({}, 'x', [3]));
    case 'object': {
      if ('additionalProperties' in shape) {
        const keys = fc.constantFrom(
          'app',
          'tier',
          'kubearmor.io/container.name',
          'kubearmor.io/hostnamereg',
        );
        return fc.dictionary(
          keys,
          mostly(
            fc.constantFrom(
              'web',
              '',
              '[a, b]',
              '[]',
              '*',
              '[[]]',
              ' , ',
              '[""]',
              "'a'",
              '_',
              'é',
              '\v',
              '\u00a0',
            ),
            fc.constantFrom(3, '('),
          ),
          {
            maxKeys: 2,
          },
        );
      }
      const fields = Object.entries(shape.properties);
      const one = fc
        .constantFrom(...fields)
        .chain(([name, field]) => values(field).map((value) => [name, value] as const));
      const given = fc.array(one, { maxLength: 3 });
      const needed = fc.tuple(
        ...(shape.required ?? []).map((name) =>
          values(shape.properties[name] as Shape).map((value) => [name, value] as const),
        ),
      );
      const lead = fields[0];
      const first: fc.Arbitrary<readonly (readonly [string, unknown])[]> =
        // where a rule asks for one of several fields, one is there for the most part
        shape['x-kubernetes-validations'] === undefined || lead === undefined
          ? fc.constant([])
          : mostly(
              values(lead[1]).map((value) => [[lead[0], value] as const]),
              fc.constant([]),
            );
      const unknown = mostly(fc.constant([]), fc.constant([['unknown', 1] as const]), 60);
      return mostly(
        fc.tuple(given, needed, first, unknown).map((parts) => Object.fromEntries(parts.flat())),
        fc.constantFrom('x', []),
        60,
      );
    }
  }
}

function mostly<T, U>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<U>, weight = 40): fc.Arbitrary<T | U> {
  return fc.oneof({ weight, arbitrary: usual }, { weight: 1, arbitrary: odd });
}

const TEXTS = [
  ...['', '/', '/a', '/a/', 'a', '/a/b.c', '//', '/a\0', '**/a', '/**', '{a,/b}', '\\/a', '/[', '*', 'a*'],
  ...[
    '10.0.0.0/8',
    '10.1.0.0/16',
    '10.0.0.1/8',
    '300.0.0.0/8',
    '::/0',
    '2001:db8::/32',
    '10.0.0.0',
    '10.0.0.0/08',
  ],
  ...[
    'example.com',
    '*.example.com',
    'a b',
    'unlinkat',
    'Tcp',
    'tcp',
    'TCP',
    'net_raw',
    'CAP_NET_RAW',
    'Net_Raw',
  ],
  ...['label', 'namespace', 'app', 'app=web', '=web', 'In', 'Exists', 'Block', 'Kill', 'block', 'exec'],
];

function fitting(shape: Shape & { type: 'string' }): fc.Arbitrary<string> {
  if (shape.enum !== undefined) return fc.constantFrom(...shape.enum);
  const pattern = shape.pattern === undefined ? undefined : new RegExp(shape.pattern, 'u');
  const fit = TEXTS.filter(
    (word) => (pattern?.test(word) ?? true) && word.length >= (shape.minLength ?? 0) && !word.includes('['),
  );
  return fc.constantFrom(...fit);
}
