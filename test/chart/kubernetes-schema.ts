import { createRequire } from 'node:module';
import type { Manifest } from './render.js';

/**
 * Kubernetes' published OpenAPI schemas (1.30 and later), as the package kubernetes-models has them. It does not complain
 * of fields that the schema does not know; since it looks only at those that it does know, what it never looked at
 * is unknown.
 */
const require = createRequire(import.meta.url);

/** What is wrong with an object: against its schema, or because the schema does not know a field. */
export function schemaFaults(object: Manifest): string[] {
  const { kind, apiVersion } = object;
  // biome-ignore lint/suspicious/noExplicitAny: a module found by name
  const Model = (require(`kubernetes-models/${apiVersion}`) as any)[kind];
  if (Model === undefined) return [`${apiVersion} has no ${kind}`];
  const unread: (() => string[])[] = [];
  const faults: string[] = [];
  try {
    Model.prototype.validate.call(watched(object, kind, unread));
  } catch (error) {
    faults.push(`${kind}: ${(error as Error).message}`);
  }
  return [...faults, ...unread.flatMap((paths) => paths()).map((path) => `${path} is unknown`)];
}

/** A copy that notes which of its fields nobody reads. */
function watched(value: unknown, path: string, unread: (() => string[])[]): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const inner = new Map(Object.entries(value).map(([k, v]) => [k, watched(v, `${path}.${k}`, unread)]));
  const left = new Set(inner.keys());
  unread.push(() => [...left].map((key) => `${path}.${key}`));
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === 'symbol' || !inner.has(key)) return Reflect.get(target, key);
      left.delete(key);
      return inner.get(key);
    },
  });
}
