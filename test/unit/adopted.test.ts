import { describe, expect, it } from 'vitest';
import { maps, structs } from '../../agent/kernel/abi.js';
import { Adopted } from '../../agent/kernel/adopted.js';
import { Arena } from '../../agent/kernel/arena.js';

const { set_header: H, workload: W } = structs;
const END = maps.arena.valueSize;
const GOOD = 4096;
const ENDLESS = 8192;
const EMPTY = 12288;

const word = (id: number) => id * W.size + W.fields.set.offset;

function adopting(
  tables: readonly (readonly [offset: number, size: number, byte?: number])[],
  given: readonly number[],
) {
  const memory = Buffer.alloc(1 << 16);
  for (const [offset, size, byte] of tables) {
    if (byte !== undefined) memory.fill(byte, offset, offset + size);
    memory.writeUInt32LE(size, offset + H.fields.size.offset);
  }
  const workloads = Buffer.alloc(maps.workloads.entries * W.size);
  for (const [i, offset] of given.entries())
    workloads.writeBigUInt64LE(BigInt(offset) | (7n << 32n), word(i + 1));
  const arena = new Arena(END);
  const held: number[] = [];
  const adopted = new Adopted({
    native: {
      read(_, offset, length) {
        // as the addon does
        if (offset + length > END) throw new RangeError('offset outside of the map');
        return memory.subarray(offset, offset + length);
      },
    },
    ...{ workloads, arena },
    onDemand: { hold: (offset) => void held.push(offset) },
  });
  const bytes = (offset: number, size: number) => new Uint8Array(memory.subarray(offset, offset + size));
  return { adopted, workloads, arena, held, bytes };
}

it('tables that can be none are not adopted, and not in force', () => {
  const offsets = [GOOD, END + 4096, END + 4096, 0xffffffff, GOOD + 8, END - 8, ENDLESS, EMPTY, GOOD];
  const all = [
    [GOOD, 5000],
    [ENDLESS, END],
    [EMPTY, 0],
  ] as const;
  const { adopted, workloads, arena, held } = adopting(all, offsets);
  expect(held).toEqual([GOOD]);
  expect(arena.bytesUsed).toBe(8192);
  const inForce = offsets.map((_, i) => workloads.readBigUInt64LE(word(i + 1)) !== 0n);
  expect(inForce).toEqual(offsets.map((offset) => offset === GOOD));
  // each once, however many workloads have it
  expect(adopted.faults).toHaveLength(6);
  expect(adopted.faults[0]).toContain(`at ${END + 4096} of the arena, which has ${END}`);
});

describe('adopted tables', () => {
  const two = [
    [4096, 900, 1],
    [8192, 900, 2],
  ] as const;

  it('are where equal ones are published, once', () => {
    const { adopted, bytes } = adopting(two, [4096, 8192]);
    expect(adopted.take(bytes(4096, 899))).toBeUndefined();
    expect(adopted.take(bytes(8192, 900))).toBe(8192);
    expect(adopted.take(bytes(8192, 900))).toBeUndefined();
    expect(adopted.take(bytes(4096, 900))).toBe(4096);
  });

  it('are freed once no workload is given them, as are others that were given up', () => {
    const { adopted, workloads, bytes } = adopting(two, [4096, 8192, 8192]);
    expect(adopted.takeUnused()).toEqual([]);
    // others had them too
    expect(adopted.take(bytes(8192, 900))).toBe(8192);
    adopted.give(8192);
    workloads.writeBigUInt64LE(0n, word(1));
    workloads.writeBigUInt64LE(0n, word(2));
    expect(adopted.takeUnused()).toEqual([4096]);
    workloads.writeBigUInt64LE(0n, word(3));
    expect(adopted.takeUnused()).toEqual([8192]);
    expect(adopted.takeUnused()).toEqual([]);
  });
});
