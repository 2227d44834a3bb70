import { beforeEach, describe, expect, test } from 'vitest';
import { Throttle } from '../../agent/event/throttle.js';
import { alertOf } from './records.js';

let now: number;
let throttle: Throttle;
beforeEach(() => {
  now = 5000;
  throttle = new Throttle({ alertsPerSecond: 2, seconds: 60 }, () => now);
});

const fates = (...pods: string[]) => pods.map((pod) => throttle.take(alertOf({ pod })));
const counts = (all = false) => throttle.ended(all).map(({ first, count }) => [first.pod, count]);

describe('of the alerts of a container', () => {
  test('so many in a second are told of, and then none until the time is over and their number told', () => {
    expect(fates('a', 'a', 'a', 'a')).toEqual(['told', 'told', 'first', 'counted']);
    now += 59_999;
    expect(fates('a')).toEqual(['counted']);
    expect(counts()).toEqual([]);
    now += 1;
    expect(fates('a')).toEqual(['counted']);
    expect(counts()).toEqual([['a', 4n]]);
    expect(counts()).toEqual([]);
    expect(fates('a')).toEqual(['told']);
  });

  test('there may be as many in the next second', () => {
    expect(fates('a', 'a')).toEqual(['told', 'told']);
    now += 999;
    expect(counts()).toEqual([]);
    now += 1;
    expect(fates('a', 'a')).toEqual(['told', 'told']);
  });

  test('those of others are none', () => {
    expect(fates('a', 'b', 'a', 'b', 'a', 'b')).toEqual(['told', 'told', 'told', 'told', 'first', 'first']);
    expect(throttle.take(alertOf({ pod: 'a', container: 'other' }))).toBe('told');
    expect(throttle.take(alertOf({ pod: 'a', namespace: 'other' }))).toBe('told');
    expect(counts(true)).toEqual([
      ['a', 1n],
      ['b', 1n],
    ]);
  });

  test('one that stands for repeats is as many', () => {
    expect(throttle.take(alertOf({ count: '3' }))).toBe('first');
    expect(throttle.take(alertOf({ count: '9007199254740993' }))).toBe('counted');
    expect(counts(true)).toEqual([['web-1', 9007199254740996n]]);
  });
});

describe('while it runs', () => {
  test('it is switched off, and who was held back has its number told', () => {
    fates('a', 'a', 'a');
    throttle.limits = undefined;
    expect(fates('a', 'b')).toEqual(['counted', 'told']);
    expect(counts()).toEqual([['a', 2n]]);
    expect(fates('a', 'a', 'a', 'a')).toEqual(['told', 'told', 'told', 'told']);
  });

  test('it is given other limits', () => {
    throttle.limits = undefined;
    expect(fates('a', 'a', 'a')).toEqual(['told', 'told', 'told']);
    throttle.limits = { alertsPerSecond: 1, seconds: 1 };
    expect(fates('a', 'a')).toEqual(['told', 'first']);
    now += 1000;
    expect(counts()).toEqual([['a', 1n]]);
  });
});
