import type { BelayRecord } from '../event/record.js';
import { Refusal } from './access.js';

/** Which records a caller wants. Of lists, any of the values must agree; an empty list agrees with everything. */
export interface Filter {
  readonly namespaces: readonly string[];
  readonly pods: readonly string[];
  readonly types: readonly string[];
  readonly classes: readonly string[];
  readonly policies: readonly string[];
  readonly verdicts: readonly string[];
  readonly minSeverity: number;
  /** Unix time, ns. */
  readonly since: bigint;
}

export const EVERYTHING: Filter = {
  ...{ namespaces: [], pods: [], types: [], classes: [], policies: [], verdicts: [] },
  ...{ minSeverity: 0, since: 0n },
};

const TYPES = {
  ...{ alert: true, exec: true, log: true, gap: true, throttle: true },
  ...{ failure: true, 'unknown-pod': true },
} satisfies Record<BelayRecord['type'], true>;
/** Whether this version knows records of a type. */
export const isType = (type: unknown): type is BelayRecord['type'] =>
  typeof type === 'string' && Object.hasOwn(TYPES, type);
const CLASSES = ['Process', 'File', 'Network', 'Capabilities', 'Syscall', 'Escape'];
const VERDICTS = ['Passed', 'Denied', 'Killed', 'ContainerKilled'];

/**
 * The filter with its words as records have them, in whatever case they were written.
 * @throws Refusal when it holds a word that no record has
 */
export function checkFilter(filter: Filter): Filter {
  const check = (what: string, given: readonly string[], known: readonly string[]) =>
    given.map((word) => {
      const meant = known.find((each) => each.toLowerCase() === word.toLowerCase());
      if (meant !== undefined) return meant;
      const there = `there are ${known.join(', ')}`;
      throw new Refusal('invalid', `there is no ${what} "${word.slice(0, 100)}"; ${there}`);
    });
  if (!(filter.minSeverity <= 10)) throw new Refusal('invalid', 'severities go from 1 to 10');
  return {
    ...filter,
    types: check('type', filter.types, Object.keys(TYPES)),
    classes: check('class', filter.classes, CLASSES),
    verdicts: check('verdict', filter.verdicts, VERDICTS),
  };
}

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

export const SINCE_FORM = 'a span (90s, 10m, 2h, 1d), a time (RFC 3339), or Unix time in nanoseconds';

/** Unix time in nanoseconds of a text of SINCE_FORM; undefined when it is none. `now` is in milliseconds. */
export function sinceOf(text: string, now = Date.now()): bigint | undefined {
  if (/^\d{1,19}$/.test(text)) return BigInt(text);
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const at = unit === undefined ? Date.parse(text) : now - Number(amount) * SECONDS[unit] * 1000;
  return Number.isNaN(at) ? undefined : BigInt(Math.round(at)) * 1_000_000n;
}

/** Whether every record agrees with it. */
export const isEverything = (filter: Filter) =>
  Object.values(filter).every((each) => (Array.isArray(each) ? each.length === 0 : !each));

/** Where a record belongs; '' = to the node as a whole. */
export const namespaceOf = (record: BelayRecord) => ('namespace' in record ? record.namespace : '');

/** A record that says that events are missing, or will be, is held against namespace and pod only: they may be what was asked for. */
export function wants(filter: Filter, record: BelayRecord): boolean {
  const agrees = (list: readonly string[], value: string | undefined) =>
    list.length === 0 || (value !== undefined && list.includes(value));
  if (!agrees(filter.namespaces, namespaceOf(record))) return false;
  if (!agrees(filter.pods, 'pod' in record ? record.pod : undefined)) return false;
  if (record.type === 'gap' || record.type === 'throttle') return true;
  if (!agrees(filter.types, record.type)) return false;
  if (filter.since > 0n && BigInt(record.time) < filter.since) return false;
  const { classes, policies, verdicts, minSeverity } = filter;
  if (record.type === 'log')
    return (
      agrees(classes, record.class) && policies.length === 0 && verdicts.length === 0 && minSeverity <= 1
    );
  if (record.type !== 'alert')
    return classes.length === 0 && policies.length === 0 && verdicts.length === 0 && minSeverity <= 1;
  return (
    agrees(classes, record.class) &&
    agrees(policies, record.policy) &&
    agrees(verdicts, record.verdict) &&
    record.severity >= minSeverity
  );
}
