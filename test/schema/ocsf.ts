import { Ajv } from 'ajv';

/**
 * The parts of OCSF 1.3 that Belay writes, as JSON schema. No npm package carries the published schema, so this is
 * written from its list of classes, objects and attributes (required ones, identifiers' values, and nothing that is not
 * there): classes Base Event, Detection Finding and Process Activity with the profiles container, host and
 * security_control.
 */
const text = { type: 'string', minLength: 1 };
const integer = { type: 'integer' };
const time = { type: 'integer', minimum: 1_000_000_000_000, maximum: 9_999_999_999_999 };
const texts = { type: 'array', items: text };
const object = (properties: Record<string, object>, required: string[] = [], more: object = {}) => ({
  type: 'object',
  additionalProperties: false,
  properties,
  required,
  ...more,
});
const oneOf = (...names: string[]) => ({ anyOf: names.map((name) => ({ required: [name] })) });

const user = object({ uid: text, name: text }, [], oneOf('uid', 'name'));
const file = object({ name: text, path: text, type_id: { enum: [0, 1, 2, 3, 4, 5, 6, 7, 99] } }, [
  'name',
  'type_id',
]);
const parent = object({ pid: integer, uid: text, name: text, file }, [], oneOf('pid', 'uid'));
const process = object(
  {
    pid: integer,
    tid: integer,
    uid: text,
    name: text,
    cmd_line: { type: 'string' },
    file,
    user,
    parent_process: parent,
  },
  [],
  oneOf('pid', 'uid'),
);
const technique = object({ uid: text, name: text }, [], oneOf('uid', 'name'));
const attacks = {
  type: 'array',
  items: object(
    { version: text, tactic: technique, technique, sub_technique: technique },
    [],
    oneOf('tactic', 'technique', 'sub_technique'),
  ),
};
const endpoint = object(
  { ip: text, port: { type: 'integer', minimum: 0, maximum: 65535 } },
  [],
  oneOf('ip', 'port'),
);
const device = object({ hostname: text, name: text, type_id: { enum: [0, 1, 2, 6, 99] }, type: text }, [
  'type_id',
]);
const container = object(
  { name: text, uid: text, image: object({ name: text, uid: text }), orchestrator: text, pod_uuid: text },
  [],
  oneOf('uid', 'name'),
);

const base = {
  activity_id: integer,
  activity_name: text,
  category_name: text,
  category_uid: integer,
  class_name: text,
  class_uid: integer,
  count: { type: 'integer', minimum: 0 },
  message: text,
  metadata: object(
    {
      version: { const: '1.3.0' },
      product: object({ name: text, vendor_name: text, version: text }, ['vendor_name']),
      uid: text,
      sequence: integer,
      log_name: text,
      profiles: { type: 'array', items: { enum: ['container', 'host', 'security_control'] } },
    },
    ['version', 'product'],
  ),
  severity: { enum: ['Informational', 'Low', 'Medium', 'High', 'Critical'] },
  severity_id: { enum: [0, 1, 2, 3, 4, 5, 6, 99] },
  status: text,
  status_id: integer,
  time,
  type_name: text,
  type_uid: integer,
  unmapped: { type: 'object' },
  device,
  container,
};
const REQUIRED = ['activity_id', 'category_uid', 'class_uid', 'metadata', 'severity_id', 'time', 'type_uid'];

const is = (values: Record<string, number>) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { const: value }]));

const finding = object(
  {
    ...base,
    ...is({ category_uid: 2, class_uid: 2004, type_uid: 200401, activity_id: 1 }),
    status_id: { enum: [0, 1, 2, 3, 4, 5, 99] },
    is_alert: { type: 'boolean' },
    action_id: { enum: [0, 1, 2, 99] },
    action: text,
    disposition_id: { type: 'integer', minimum: 0, maximum: 27 },
    disposition: text,
    attacks,
    policy: object({ name: text, uid: text, desc: text, version: text }),
    finding_info: object(
      {
        uid: text,
        title: text,
        desc: text,
        created_time: time,
        types: texts,
        analytic: object(
          { name: text, uid: text, category: text, type: text, type_id: { enum: [0, 1, 2, 3, 4, 99] } },
          ['type_id'],
        ),
        attacks,
      },
      ['uid', 'title'],
    ),
    evidences: {
      type: 'array',
      items: object(
        {
          actor: object({ process, user }, [], oneOf('process', 'user')),
          file,
          dst_endpoint: endpoint,
          src_endpoint: endpoint,
          connection_info: object({ protocol_name: text, direction_id: { enum: [0, 1, 2, 3, 99] } }, [
            'direction_id',
          ]),
          data: {},
        },
        [],
        oneOf('actor', 'file', 'dst_endpoint', 'connection_info', 'data'),
      ),
    },
    resources: {
      type: 'array',
      items: object({ name: text, namespace: text, type: text, labels: texts, uid: text }),
    },
  },
  [...REQUIRED, 'finding_info'],
);

const launch = object(
  {
    ...base,
    ...is({ category_uid: 1, class_uid: 1007 }),
    type_uid: { enum: [100701, 100702, 100703, 100704, 100705, 100799] },
    activity_id: { enum: [1, 2, 3, 4, 5, 99] },
    exit_code: integer,
    actor: object({ process: parent, user }, [], oneOf('process', 'user')),
    process,
  },
  [...REQUIRED, 'actor', 'device', 'process'],
);

const event = object(
  { ...base, ...is({ category_uid: 0, class_uid: 0, type_uid: 99, activity_id: 99 }) },
  REQUIRED,
);

const ajv = new Ajv({ allErrors: true, strict: false });
const schemas = new Map([
  [2004, ajv.compile(finding)],
  [1007, ajv.compile(launch)],
  [0, ajv.compile(event)],
]);

/** What is wrong with an event, by the class that it says it is of. */
export function ocsfFaults(value: { class_uid?: unknown }): string[] {
  const valid = schemas.get(Number(value.class_uid));
  if (valid === undefined) return [`class_uid ${value.class_uid} is not known`];
  valid(value);
  return (valid.errors ?? []).map(
    ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
  );
}
