import { Ajv, type ValidateFunction } from 'ajv';
import { KINDS_SERVED } from '../../agent/policy/schema/crds.js';
import type { Shape } from '../../agent/policy/schema/shape.js';
import { brokenConditions } from './cel.js';

/**
 * What a current API server makes of an object that kubectl sends it: fields that the definition does not know are refused
 * (kubectl asks for that), those that are null are taken out, defaults are filled in, and then the schema and the
 * conditions in CEL must hold. Metadata is left alone.
 */

const ajv = new Ajv({ strict: false, allErrors: true, useDefaults: true, validateFormats: false });
const validators = new Map<string, { shape: Shape; validate: ValidateFunction }>(
  KINDS_SERVED.map(({ kind, shape }) => [kind, { shape, validate: ajv.compile(shape) }]),
);

/** What the object became in the API server, and why it is refused, if it is. */
export function admit(given: unknown): { readonly object: unknown; readonly faults: readonly string[] } {
  const { apiVersion, kind } = (given ?? {}) as { apiVersion?: unknown; kind?: unknown };
  const known = apiVersion === 'security.belay.dev/v1' ? validators.get(String(kind)) : undefined;
  if (known === undefined) return { object: given, faults: ['no such kind'] };
  const { metadata, ...rest } = given as { metadata?: unknown };
  const object = withoutNulls(known.shape, { ...rest, metadata: {} });
  const faults = unknownFields(known.shape, object);
  if (!known.validate(object)) {
    faults.push(
      ...(known.validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`),
    );
    // values of a wrong type or number keep the conditions from being looked at
    const blocking = known.validate.errors?.some(
      ({ keyword }) => !['pattern', 'minLength', 'minimum', 'maximum'].includes(keyword),
    );
    if (blocking) return { object, faults };
  }
  faults.push(...brokenConditions(known.shape, object));
  return { object: { ...(object as object), metadata }, faults };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fieldOf(shape: Shape, name: string): Shape | undefined {
  if (shape.type !== 'object') return undefined;
  return 'properties' in shape ? shape.properties[name] : shape.additionalProperties;
}

function withoutNulls(shape: Shape | undefined, value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map((item) => withoutNulls(shape?.type === 'array' ? shape.items : undefined, item));
  }
  if (!isObject(value)) return value;
  const fields = Object.entries(value).flatMap(([name, inner]) => {
    const field = shape && fieldOf(shape, name);
    const keep = inner !== null || field === undefined || (field.type === 'string' && field.nullable);
    return keep ? [[name, withoutNulls(field, inner)] as const] : [];
  });
  return Object.fromEntries(fields);
}

function unknownFields(shape: Shape, value: unknown, path = ''): string[] {
  if (shape.type === 'array' && Array.isArray(value)) {
    return value.flatMap((item, i) => unknownFields(shape.items, item, `${path}[${i}]`));
  }
  if (shape.type !== 'object' || !isObject(value)) return [];
  return Object.entries(value).flatMap(([name, inner]) => {
    const field = fieldOf(shape, name);
    return field === undefined
      ? [`${path}.${name} is unknown`]
      : unknownFields(field, inner, `${path}.${name}`);
  });
}
