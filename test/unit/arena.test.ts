import { expect, it } from 'vitest';
import { Arena, ArenaFull } from '../../agent/kernel/arena.js';

const PAGE = 4096;

it('tables never lie at 0, over each other or over the end', () => {
  const arena = new Arena(4 * PAGE);
  const taken = [arena.take(1), arena.take(PAGE), arena.take(PAGE - 1)];
  expect(taken).toEqual([PAGE, 2 * PAGE, 3 * PAGE]);
  expect(arena.bytesUsed).toBe(3 * PAGE);
});

it('tables that find no room are refused with what they need and what there is, and take nothing', () => {
  const arena = new Arena(8 * PAGE);
  arena.take(2 * PAGE);
  const between = arena.take(2 * PAGE);
  arena.take(PAGE);
  arena.give(between);
  expect(() => arena.take(3 * PAGE)).toThrow(ArenaFull);
  expect(() => arena.take(3 * PAGE)).toThrow(/need 12288 bytes and the longest free stretch .* has 8192/);
  expect(arena.bytesUsed).toBe(3 * PAGE);
  expect(arena.take(2 * PAGE)).toBe(between);
});

it('what an agent before left in use is not given out', () => {
  const arena = new Arena(8 * PAGE);
  arena.adopt(4 * PAGE, PAGE + 1);
  arena.adopt(4 * PAGE, PAGE + 1);
  expect(arena.bytesUsed).toBe(2 * PAGE);
  expect(arena.take(3 * PAGE)).toBe(PAGE);
  expect(arena.take(PAGE)).toBe(6 * PAGE);
  expect(() => arena.take(2 * PAGE)).toThrow(ArenaFull);
});

it('what an agent before left in use is not given out, were one part of it inside another', () => {
  const arena = new Arena(8 * PAGE);
  arena.adopt(PAGE, 4 * PAGE);
  arena.adopt(2 * PAGE, PAGE);
  expect(arena.take(PAGE)).toBe(5 * PAGE);
});
