import { enums } from '../kernel/abi.js';

const V = enums.visible;

/** What telemetry tells of a workload: enum visible, a bit for each kind of operations. */
export type Visibility = number;

export const NOTHING_VISIBLE: Visibility = 0;

const KINDS: ReadonlyMap<string, Visibility> = new Map([
  ['process', V.VISIBLE_PROCESS],
  ['file', V.VISIBLE_FILE],
  ['network', V.VISIBLE_NETWORK],
  ['capabilities', V.VISIBLE_CAPABILITIES],
]);

const WORDS = [...KINDS.keys()].join('|');
/** `none`, or some of the kinds, by commas. */
export const VISIBILITY_FORM = new RegExp(`^(none|(${WORDS})(,(${WORDS}))*)$`);

/** The kinds that a text names; other words mean nothing, as `none`. */
export function visibilityOf(text: string): Visibility {
  return text
    .split(',')
    .map((word) => KINDS.get(word.trim()) ?? NOTHING_VISIBLE)
    .reduce((all, kind) => all | kind, NOTHING_VISIBLE);
}
