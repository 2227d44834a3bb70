import { expect, test } from 'vitest';
import { Tallies } from '../../agent/control/tally.js';

test('policies that come and go for ever take the place of those that went', () => {
  const tallies = new Tallies();
  let before = tallies.share({ enforced: { first: '1:2' } });
  tallies.change(undefined, before);
  const numbers = new Set<number>();
  for (let i = 0; i < 100; i++) {
    const after = tallies.share({ enforced: { [`policy-${i}`]: '1:2' } });
    tallies.change(before, after);
    numbers.add(after.whole[0]);
    before = after;
  }
  expect(numbers.size).toBe(2);
  // and one that a node still tells of keeps its own
  const other = tallies.share({ enforced: { 'policy-99': '1:2', another: '1:1' } });
  expect(tallies.change(undefined, other)).toEqual(new Set(['policy-99', 'another']));
  expect(tallies.change(before, undefined)).toEqual(new Set(['policy-99']));
  expect(tallies.share({ enforced: { 'policy-99': '1:2' } }).whole[0]).toBe(other.whole[0]);
});
