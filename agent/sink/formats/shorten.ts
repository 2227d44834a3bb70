import type { BelayRecord } from '../../event/record.js';

const LISTS = [256, 64, 16] as const;
const TEXTS = [4096, 512, 64] as const;

/**
 * A record as text of at most `limit` bytes: as it is where it fits, else with long texts and lists cut (texts end in
 * `…` then) as far as needed.
 */
export function fitting(
  record: BelayRecord,
  limit: number,
  format: (record: BelayRecord) => string,
): string | undefined {
  const whole = format(record);
  if (whole.length * 3 <= limit || Buffer.byteLength(whole) <= limit) return whole;
  for (const step of [0, 1, 2] as const) {
    const less = format(cut(record, TEXTS[step], LISTS[step]) as BelayRecord);
    if (Buffer.byteLength(less) <= limit) return less;
  }
  return undefined;
}

function cut(value: unknown, text: number, list: number): unknown {
  if (typeof value === 'string') return cutText(value, text);
  if (Array.isArray(value)) return value.slice(0, list).map((each) => cut(each, text, list));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).slice(0, Math.max(list, 40));
  const less = Object.fromEntries(entries.map(([name, each]) => [name, cut(each, text, list)]));
  if ('arguments' in value) less.argumentsCut = true;
  return less;
}

/** At most so many characters, with no half of a surrogate pair at the end. */
export function cutText(text: string, length: number): string {
  if (text.length <= length) return text;
  const end = length - 1;
  const high = text.charCodeAt(end - 1);
  return `${text.slice(0, high >= 0xd800 && high < 0xdc00 ? end - 1 : end)}…`;
}
