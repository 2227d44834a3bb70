import { describe, expect, test } from 'vitest';
import { Redactor, redactionFault } from '../../agent/event/redact.js';
import { alertOf, gapOf } from './records.js';

const withArguments = (...words: string[]) => {
  const alert = alertOf();
  return { ...alert, process: alert.process && { ...alert.process, arguments: words } };
};
const redacted = (rules: string[], ...words: string[]) =>
  new Redactor(rules).redact(withArguments(...words)).process?.arguments;

describe('redaction', () => {
  test.each([
    [['--password=(\\S+)'], ['mysql', '--password=hunter2', 'db'], ['mysql', '--password=[redacted]', 'db']],
    [['--password[= ](\\S+)'], ['mysql', '--password', 'hunter2'], ['mysql', '--password', '[redacted]']],
    [
      ['(?i)bearer \\S+'],
      ['curl', '-H', 'Authorization: Bearer abc.def'],
      ['curl', '-H', 'Authorization: [redacted]'],
    ],
    [['a(.)c', 'b'], ['abc'], ['a[redacted]c']],
    [['secret one'], ['my secret', 'one more'], ['my [redacted]', '[redacted] more']],
    [['x*'], ['none'], ['none']],
    [[], ['all', 'as', 'is'], ['all', 'as', 'is']],
  ])('by %j of %j gives %j', (rules, words, expected) => {
    expect(redacted(rules, ...words)).toEqual(expected);
  });

  test('leaves records without a process alone', () => {
    const gap = gapOf();
    expect(new Redactor(['.']).redact(gap)).toBe(gap);
  });

  test('takes no longer for what would take other engines forever', () => {
    const begun = performance.now();
    redacted(['(a+)+$'], `${'a'.repeat(20_000)}!`);
    expect(performance.now() - begun).toBeLessThan(20_000);
  });

  test('says what is wrong with a rule', () => {
    expect(redactionFault('(')).toContain('missing');
    expect(redactionFault('(?<=a)b')).toBeDefined();
    expect(redactionFault('password=(\\S+)')).toBeUndefined();
  });
});
