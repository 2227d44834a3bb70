import { Environment } from '@marcbachmann/cel-js';
import type { Shape, Validation } from '../../agent/policy/schema/shape.js';

/**
 * The CEL conditions of a shape, type-checked, evaluated and priced as a Kubernetes API server does it: `self` has the
 * type of the value that the condition stands at.
 */

/** Every shape within a shape, with how often it can occur in one object. */
export function* shapes(
  shape: Shape,
  path = '',
  times = 1,
): Generator<{ shape: Shape; path: string; times: number }> {
  yield { shape, path, times };
  if (shape.type === 'array') yield* shapes(shape.items, `${path}[]`, times * shape.maxItems);
  else if (shape.type === 'object' && 'properties' in shape) {
    for (const [name, field] of Object.entries(shape.properties))
      yield* shapes(field, `${path}.${name}`, times);
  } else if (shape.type === 'object') {
    yield* shapes(shape.additionalProperties, `${path}.*`, times * shape.maxProperties);
  }
}

/** What is wrong with the types of a condition; it must be a bool. */
export function typeFault(shape: Shape, { rule }: Validation): string | undefined {
  const environment = new Environment();
  let count = 0;
  const declare = (of: Shape): string => {
    switch (of.type) {
      case 'string':
        return 'string';
      case 'integer':
        return 'int';
      case 'boolean':
        return 'bool';
      case 'array':
        return `list<${declare(of.items)}>`;
      case 'object': {
        if ('additionalProperties' in of) return `map<string, ${declare(of.additionalProperties)}>`;
        const name = `Object${count++}`;
        const fields = Object.entries(of.properties).map(([field, value]) => [field, declare(value)]);
        environment.registerType(name, { fields: Object.fromEntries(fields) });
        return name;
      }
    }
  };
  environment.registerVariable('self', declare(shape));
  const { valid, type, error } = environment.check(rule);
  if (!valid) return error?.message ?? 'it does not compile';
  return type === 'bool' ? undefined : `it is a ${type}, not a bool`;
}

const dynamic = new Environment().registerVariable('self', 'dyn');
const programs = new Map<string, ReturnType<Environment['parse']>>();

/** The messages of the conditions that do not hold in a value that otherwise fits its shape. */
export function brokenConditions(shape: Shape, value: unknown, path = ''): string[] {
  if (value === undefined || value === null) return [];
  const broken = (shape['x-kubernetes-validations'] ?? []).flatMap(({ rule, message }) =>
    holds(rule, value) ? [] : [`${path} ${message}`],
  );
  if (shape.type === 'array') {
    const items = value as unknown[];
    return [...broken, ...items.flatMap((item, i) => brokenConditions(shape.items, item, `${path}[${i}]`))];
  }
  if (shape.type !== 'object' || !('properties' in shape)) return broken;
  return [
    ...broken,
    ...Object.entries(shape.properties).flatMap(([name, field]) =>
      brokenConditions(field, (value as Record<string, unknown>)[name], `${path}.${name}`),
    ),
  ];
}

function holds(rule: string, self: unknown): boolean {
  const program = programs.get(rule) ?? dynamic.parse(rule);
  programs.set(rule, program);
  return program({ self: withIntegers(self) }) === true;
}

/** CEL's int is JavaScript's bigint. */
function withIntegers(value: unknown): unknown {
  if (typeof value === 'number') return BigInt(value);
  if (Array.isArray(value)) return value.map(withIntegers);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, withIntegers(field)]));
}

type Node = { readonly op: string; readonly args: unknown };
/** What is known of an expression: what evaluating it costs at most, and the shape of its value if it has one. */
type Known = { readonly cost: number; readonly shape?: Shape };

/**
 * What a condition costs at most, in the API server's units: one for each step, a tenth for each character that is looked
 * at, and for lists as many times as they have items (cel-go's checker/cost.go).
 * @throws when a field is asked for that the shape does not have
 */
export function cost(shape: Shape, { rule }: Validation): number {
  return price(dynamic.parse(rule).ast as unknown as Node, new Map([['self', { cost: 1, shape }]])).cost;
}

function price(node: Node, scope: ReadonlyMap<string, Known>): Known {
  const of = (inner: unknown) => price(inner as Node, scope);
  const sum = (all: readonly unknown[]) => all.reduce<number>((total, inner) => total + of(inner).cost, 0);
  switch (node.op) {
    case 'value':
      return { cost: 0 };
    case 'id':
      return scope.get(node.args as string) ?? { cost: 1 };
    case 'list':
      return { cost: 10 + sum(node.args as unknown[]) };
    case '.': {
      const [object, name] = node.args as [unknown, string];
      const from = of(object);
      return { cost: from.cost + 1, shape: field(from.shape, name) };
    }
    case '[]': {
      const [object, key] = node.args as [unknown, unknown];
      const from = of(object);
      const { shape } = from;
      const inner =
        shape?.type === 'object' && 'additionalProperties' in shape ? shape.additionalProperties : undefined;
      return { cost: from.cost + of(key).cost + 1, ...(inner && { shape: inner }) };
    }
    case 'call': {
      const [, args] = node.args as [string, unknown[]];
      return { cost: 1 + sum(args) };
    }
    case 'rcall': {
      const [name, receiver, args] = node.args as [string, unknown, Node[]];
      const on = of(receiver);
      const [first, second] = args;
      if (name === 'all' && first !== undefined && second !== undefined && on.shape?.type === 'array') {
        const inner = new Map(scope).set(first.args as string, { cost: 1, shape: on.shape.items });
        return { cost: on.cost + on.shape.maxItems * (price(second, inner).cost + 3) };
      }
      const length = Math.ceil((on.shape?.type === 'string' ? longest(on.shape) : 0) / 10);
      const sizes: Readonly<Record<string, number>> = {
        startsWith: 1,
        endsWith: 1,
        contains: length,
        matches: length * String(first?.args).length,
      };
      const size = sizes[name];
      if (size === undefined) throw new Error(`no price is known for ${name}`);
      return { cost: on.cost + 1 + size + sum(args) };
    }
    case '==':
    case '!=':
    case 'in': {
      const [left, right] = node.args as [unknown, Node];
      const a = of(left);
      const size = a.shape?.type === 'string' ? Math.ceil(longest(a.shape) / 10) : 1;
      const times = node.op === 'in' && right.op === 'list' ? (right.args as unknown[]).length : 1;
      return { cost: a.cost + of(right).cost + times * size };
    }
    default: {
      const args = Array.isArray(node.args) ? node.args : [node.args];
      return { cost: 1 + sum(args) };
    }
  }
}

function longest(shape: Shape & { type: 'string' }): number {
  const words = (shape.enum ?? []).map(({ length }) => length);
  const length = shape.maxLength ?? (words.length > 0 ? Math.max(...words) : undefined);
  if (length === undefined) throw new Error('a text without a greatest length is looked at');
  return length;
}

function field(shape: Shape | undefined, name: string): Shape {
  const found = shape?.type === 'object' && 'properties' in shape ? shape.properties[name] : undefined;
  if (found === undefined) throw new Error(`there is no field ${name}`);
  return found;
}
