/**
 * The language in which the shapes of Belay's Kubernetes objects are written: the subset of OpenAPI that a
 * CustomResourceDefinition may hold ("structural schema"), as constant data. From one such shape come the definition
 * that the API server gets, the TypeScript type of the object, and the names that the policy readers know.
 */

/** A condition in CEL on the value it stands at (`self`), and what to do when it does not hold. */
export interface Validation {
  readonly rule: string;
  readonly message: string;
}

interface Described {
  readonly description: string;
  readonly 'x-kubernetes-validations'?: readonly Validation[];
}

export type Properties = { readonly [name: string]: Shape };

export interface ObjectShape<P extends Properties = Properties, R extends string = string> extends Described {
  readonly type: 'object';
  readonly properties: P;
  readonly required?: readonly R[];
}

/** An object whose fields are named by the user. */
export interface MapShape<V extends Shape = Shape> extends Described {
  readonly type: 'object';
  readonly additionalProperties: V;
  readonly maxProperties: number;
  readonly 'x-kubernetes-map-type'?: 'atomic';
}

export interface ListShape<I extends Shape = Shape> extends Described {
  readonly type: 'array';
  readonly items: I;
  readonly maxItems: number;
  readonly 'x-kubernetes-list-type'?: 'atomic' | 'map';
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
}

export interface TextShape<T extends string = string> extends Described {
  readonly type: 'string';
  readonly enum?: readonly T[];
  /** Understood alike by RE2 and by JavaScript. */
  readonly pattern?: string;
  readonly format?: 'date-time';
  readonly minLength?: number;
  /** In characters. */
  readonly maxLength?: number;
  /** Null is kept; elsewhere the API server takes fields out whose value is null. */
  readonly nullable?: true;
  readonly default?: T;
}

export interface IntegerShape extends Described {
  readonly type: 'integer';
  readonly format: 'int64';
  readonly minimum: number;
  readonly maximum: number;
  readonly default?: number;
}

export interface FlagShape extends Described {
  readonly type: 'boolean';
  readonly default?: boolean;
}

export type Shape = ObjectShape | MapShape | ListShape | TextShape | IntegerShape | FlagShape;

/** The TypeScript type of the values of a shape. */
export type ValueOf<S> =
  S extends ObjectShape<infer P, infer R>
    ? { readonly [K in keyof P & R]: ValueOf<P[K]> } & {
        readonly [K in Exclude<keyof P, R>]?: ValueOf<P[K]>;
      }
    : S extends MapShape<infer V>
      ? { readonly [name: string]: ValueOf<V> }
      : S extends ListShape<infer I>
        ? readonly ValueOf<I>[]
        : S extends TextShape<infer T>
          ? T | (S extends { readonly nullable: true } ? null : never)
          : S extends IntegerShape
            ? number
            : S extends FlagShape
              ? boolean
              : never;

export function object<const P extends Properties, const R extends string & keyof P = never>(
  description: string,
  properties: P,
  required: readonly R[] = [],
  validations: readonly Validation[] = [],
): ObjectShape<P, R> {
  return {
    description,
    type: 'object',
    properties,
    ...(required.length === 0 ? {} : { required }),
    ...(validations.length === 0 ? {} : { 'x-kubernetes-validations': validations }),
  };
}

export function map<V extends Shape>(
  description: string,
  additionalProperties: V,
  maxProperties: number,
  more: Pick<MapShape, 'x-kubernetes-map-type'> = {},
): MapShape<V> {
  return { description, type: 'object', additionalProperties, maxProperties, ...more };
}

/** A list without `x-kubernetes-list-type` is atomic: who applies it, owns it whole. */
export function list<I extends Shape>(
  description: string,
  items: I,
  maxItems: number,
  more: Pick<ListShape, 'x-kubernetes-list-type' | 'x-kubernetes-list-map-keys'> = {},
): ListShape<I> {
  return { description, type: 'array', items, maxItems, ...more };
}

export function text<const T extends string = string>(
  description: string,
  more: Omit<TextShape<T>, 'type' | 'description'>,
): TextShape<T> {
  return { description, type: 'string', ...more };
}

/** @param maximum by default, the greatest that JavaScript counts exactly */
export function integer(
  description: string,
  minimum: number,
  maximum: number = Number.MAX_SAFE_INTEGER,
): IntegerShape {
  return { description, type: 'integer', format: 'int64', minimum, maximum };
}

export function flag(description: string): FlagShape {
  return { description, type: 'boolean' };
}

/** The names of an object's fields, in the order in which they are to be shown. */
export function fieldNames(shape: { readonly properties: object }): string[] {
  return Object.keys(shape.properties);
}
