import { isMap, type Node } from 'yaml';
import { asList, Fields, short } from '../policy/fields.js';
import type { Source } from '../policy/source.js';
import { FORMAT_NAMES, type FormatName } from './formats/format.js';
import type { Secret } from './secret.js';

/**
 * What the configuration says of sinks, and how each kind is described there: `KINDS` is the one place. The reader, with a
 * fault's line and column, and the JSON schema come from it.
 */

interface Field {
  readonly about: string;
  readonly of: 'text' | 'texts' | 'integer' | 'flag' | 'secret';
  readonly required?: true;
  readonly choices?: readonly string[];
  /** What a text must look like, all of it, and how to say so. */
  readonly form?: RegExp;
  readonly advice?: string;
  /** It may hold a secret: a fault, which goes to the log, does not say what is there. */
  readonly unsaid?: true;
  readonly least?: number;
  readonly most?: number;
}
type Kind = Readonly<Record<string, Field>>;

const path = { of: 'text', form: /^\/[^\0]*[^\0/]$/, advice: 'an absolute path' } as const;
const url = (schemes: string, example: string) =>
  ({
    of: 'text',
    required: true,
    form: new RegExp(`^(${schemes})://[^\\s/]+(/\\S*)?$`),
    advice: `a URL like ${example}`,
    unsaid: true,
  }) as const;

const TLS = {
  caFile: { ...path, about: 'certificates of the authorities that the peer’s may come from (PEM)' },
  certFile: { ...path, about: 'certificate to show the peer (PEM)' },
  keyFile: { ...path, about: 'its key (PEM)' },
  serverName: { of: 'text', about: 'name that the peer’s certificate must have' },
} as const satisfies Kind;

const KINDS = {
  stdout: {},
  file: {
    path: { ...path, required: true, about: 'the file' },
    maxMiB: { of: 'integer', least: 1, most: 1 << 20, about: 'size at which it is rotated (default: 100)' },
    keep: { of: 'integer', least: 1, most: 1000, about: 'compressed files that are kept (default: 5)' },
  },
  syslog: {
    address: {
      of: 'text',
      required: true,
      form: /^(udp|tcp|tls):\/\/(\[[0-9A-Fa-f:]+\]|[^\s:/[\]]+):[0-9]{1,5}$/,
      advice: 'udp://, tcp:// or tls:// with host:port',
      unsaid: true,
      about: 'where the receiver listens',
    },
    ...TLS,
  },
  otlp: {
    url: {
      ...url('grpc|grpcs|http|https', 'grpcs://collector:4317 or https://collector:4318/v1/logs'),
      about: 'of the collector',
    },
    token: { of: 'secret', about: 'bearer token' },
    ...TLS,
  },
  kafka: {
    brokers: { of: 'texts', required: true, about: 'host:port of brokers to begin with' },
    topic: {
      of: 'text',
      required: true,
      form: /^[A-Za-z0-9._-]{1,249}$/,
      advice: 'a topic’s name',
      about: 'the topic',
    },
    tls: { of: 'flag', about: 'speak TLS (default: false, but true with any of the files)' },
    ...TLS,
    sasl: { of: 'text', choices: ['plain', 'scram-sha-256', 'scram-sha-512'], about: 'how to authenticate' },
    username: { of: 'text', about: 'for sasl' },
    password: { of: 'secret', about: 'for sasl' },
  },
  webhook: {
    url: { ...url('http|https', 'https://alerts.example/belay'), about: 'what is posted to' },
    token: { of: 'secret', about: 'bearer token' },
    ...TLS,
  },
  splunk: {
    url: {
      ...url('http|https', 'https://splunk:8088/services/collector/event'),
      about: 'of the HTTP Event Collector',
    },
    token: { of: 'secret', required: true, about: 'of the collector' },
    index: { of: 'text', about: 'index (default: the token’s)' },
    ...TLS,
  },
  elasticsearch: {
    url: { ...url('http|https', 'https://elasticsearch:9200'), about: 'of the cluster' },
    index: { of: 'text', required: true, about: 'index or data stream' },
    apiKey: { of: 'secret', about: 'API key, encoded' },
    username: { of: 'text', about: 'instead of an API key' },
    password: { of: 'secret', about: 'with username' },
    ...TLS,
  },
} as const satisfies Record<string, Kind>;

export type SinkType = keyof typeof KINDS;
const TYPES = Object.keys(KINDS) as SinkType[];

const FILTER = {
  types: { of: 'texts', about: 'types of records: alert, exec, log, gap, …' },
  namespaces: { of: 'texts', about: 'names of namespaces, or globs' },
  exceptNamespaces: { of: 'texts', about: 'those that are left out' },
  verdicts: { of: 'texts', about: 'of alerts: Passed, Denied, Killed, ContainerKilled' },
  policies: { of: 'texts', about: 'of alerts: names of policies, or globs' },
  tags: { of: 'texts', about: 'of alerts: those with one of these tags' },
  minSeverity: { of: 'integer', least: 1, most: 10, about: 'least severity' },
} as const satisfies Kind;

const COMMON = {
  name: {
    of: 'text',
    required: true,
    form: /^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/,
    advice: 'lower-case letters, digits and "-" (at most 32)',
    about: 'of its spool and in metrics',
  },
  type: { of: 'text', required: true, choices: TYPES, about: 'what it speaks' },
  format: {
    of: 'text',
    choices: FORMAT_NAMES,
    about: 'how records are written (default: belay; ecs for elasticsearch)',
  },
  spoolMiB: { of: 'integer', least: 1, most: 1 << 20, about: 'most that may wait on disk (default: 256)' },
} as const satisfies Kind;

type ValueOf<F extends Field> = F['of'] extends 'texts'
  ? readonly string[]
  : F['of'] extends 'integer'
    ? number
    : F['of'] extends 'flag'
      ? boolean
      : F['of'] extends 'secret'
        ? Secret
        : F extends { readonly choices: readonly (infer Choice)[] }
          ? Choice
          : string;
type Values<K extends Kind> = {
  readonly [N in keyof K as K[N] extends { readonly required: true } ? N : never]: ValueOf<K[N]>;
} & { readonly [N in keyof K as K[N] extends { readonly required: true } ? never : N]?: ValueOf<K[N]> };

/** One sink, as the configuration has it. */
export type SinkSettings = {
  [T in SinkType]: { readonly type: T } & Values<(typeof KINDS)[T]>;
}[SinkType] & {
  readonly name: string;
  readonly format?: FormatName;
  readonly spoolMiB?: number;
  readonly filter?: Values<typeof FILTER>;
};

/** Reads the list; every fault is told at its place, and a sink with one is left out. */
export function readSinks(source: Source, node: Node, what: string): readonly SinkSettings[] {
  const names = new Set<string>();
  return (asList(source, node, what) ?? []).flatMap(({ node: item, index }) => {
    const before = source.errors;
    const fields = Fields.of(source, item, `${what}[${index}]`, item);
    if (fields === undefined) return [];
    const common = readFields(fields, COMMON) as Partial<SinkSettings>;
    const { type, name } = common;
    if (type === undefined) return [];
    if (name !== undefined && names.has(name))
      source.error(item, `a sink named "${name}" stands before this one; give it another name`);
    names.add(name ?? '');
    const kind: Kind = KINDS[type];
    fields.allow([...Object.keys(COMMON), 'filter', ...Object.keys(kind)]);
    const own = readFields(fields, kind);
    const filter = fields.fields('filter');
    filter?.allow(Object.keys(FILTER));
    const wanted = filter && readFields(filter, FILTER);
    const sink = { ...common, ...own, ...(wanted && { filter: wanted }) };
    checkTogether(source, item, sink);
    return source.errors > before ? [] : [sink as SinkSettings];
  });
}

/** What no single field shows. */
function checkTogether(source: Source, item: Node, sink: Readonly<Record<string, unknown>>): void {
  const together = (one: string, other: string) => {
    if ((sink[one] === undefined) !== (sink[other] === undefined)) {
      const [given, missing] = sink[one] === undefined ? [other, one] : [one, other];
      source.error(item, `${given} is set and ${missing} is not; set both, or neither`);
    }
  };
  together('certFile', 'keyFile');
  together('username', 'password');
  if (sink.type === 'kafka') together('sasl', 'username');
  if (sink.type === 'elasticsearch' && sink.format === 'cef')
    source.error(item, 'Elasticsearch takes JSON only; choose another format than cef');
}

function readFields(fields: Fields, kind: Kind): Record<string, unknown> {
  const values = Object.entries(kind).map(([name, field]) => [name, readField(fields, name, field)] as const);
  return Object.fromEntries(values.filter(([, value]) => value !== undefined));
}

function readField(fields: Fields, name: string, field: Field): unknown {
  const { of, required, choices, form, advice, unsaid, about, least = 0, most = 0 } = field;
  if (required && fields.required(name, `it is needed: ${about}`) === undefined) return undefined;
  if (of === 'flag') return fields.flag(name);
  if (of === 'integer') return fields.integer(name, least, most);
  if (of === 'secret') return readSecretField(fields, name);
  if (of === 'texts') return fields.texts(name);
  if (choices) return fields.choice(name, choices);
  const text = fields.text(name);
  const node = fields.value(name);
  if (text === undefined || node === undefined || (text !== '' && (form === undefined || form.test(text))))
    return text;
  const what = unsaid ? 'this' : `"${short(text)}"`;
  const fault = text === '' ? 'is empty' : `cannot be ${what}; write ${advice}`;
  fields.source.error(node, `${fields.what}.${name} ${fault}`);
  return undefined;
}

function readSecretField(fields: Fields, name: string): Secret | undefined {
  const node = fields.entry(name)?.value;
  if (node && !isMap(node)) {
    // what is there is not said: faults go to the log
    const advice = `write ${name}: {file: /etc/belay/${name}} or ${name}: {env: NAME}`;
    fields.source.error(node, `${fields.what}.${name} must say where the secret is; ${advice}`);
    return undefined;
  }
  const secret = fields.fields(name);
  if (secret === undefined) return undefined;
  secret.allow(['file', 'env']);
  const file = secret.text('file');
  const env = secret.text('env');
  if ((file === undefined) === (env === undefined)) {
    secret.source.error(secret.node, `${secret.what} needs either file or env, where the secret is`);
    return undefined;
  }
  return file !== undefined ? { file } : { env: env ?? '' };
}

/** JSON schema of the list. */
export function sinksSchema(): object {
  const filter = { type: 'object', additionalProperties: false, properties: schemasOf(FILTER) };
  return {
    type: 'array',
    items: {
      oneOf: TYPES.map((type) => {
        const kind: Kind = KINDS[type];
        return {
          type: 'object',
          additionalProperties: false,
          required: Object.entries({ ...COMMON, ...kind }).flatMap(([name, { required }]: [string, Field]) =>
            required ? [name] : [],
          ),
          properties: { ...schemasOf(COMMON), ...schemasOf(kind), type: { const: type }, filter },
        };
      }),
    },
  };
}

const SECRET = {
  oneOf: ['file', 'env'].map((name) => ({
    type: 'object',
    additionalProperties: false,
    required: [name],
    properties: { [name]: { type: 'string', minLength: 1 } },
  })),
};

function schemasOf(kind: Kind): Record<string, object> {
  return Object.fromEntries(
    Object.entries(kind).map(([name, { about, of, choices, form, least, most }]) => {
      const text = { type: 'string', minLength: 1, ...(form && { pattern: form.source }) };
      const schema = {
        text: choices ? { enum: choices } : text,
        texts: { type: 'array', items: { type: 'string' } },
        integer: { type: 'integer', minimum: least, maximum: most },
        flag: { type: 'boolean' },
        secret: SECRET,
      }[of];
      return [name, { description: about, ...schema }];
    }),
  );
}
