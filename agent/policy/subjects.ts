import type { Subjects } from './decide.js';
import type { NameMatchers } from './names.js';
import { SetPool, sortUnique } from './sets.js';

/** Subject classes: which lists of sources name a program, for every set of matchers that a name can match. */
export function subjectsOf(
  accepts: SetPool,
  names: NameMatchers,
): Subjects & {
  /** Per accept set the subject class of a program of such a name. */
  readonly ofAccept: Int32Array;
} {
  const classes = new SetPool();
  classes.intern(new Int32Array(0), 0);
  const ofAccept = new Int32Array(accepts.count);
  for (let set = 0; set < accepts.count; set++) {
    const lists: number[] = [];
    for (const id of accepts.members(set)) for (const list of names.all[id].sourceOf) lists.push(list);
    if (lists.length === 0) continue;
    const buffer = Int32Array.from(lists);
    ofAccept[set] = classes.intern(buffer, sortUnique(buffer, buffer.length));
  }
  const having: number[][] = Array.from({ length: names.sourceLists }, () => []);
  for (let subject = 1; subject < classes.count; subject++) {
    for (const list of classes.members(subject)) having[list].push(subject);
  }
  return { classes, having, ofAccept };
}
