import { expect, it } from 'vitest';
import { maps, structs } from '../../agent/kernel/abi.js';
import { adoptTables } from '../../agent/kernel/adopted.js';
import { Arena } from '../../agent/kernel/arena.js';

const { set_header: H, workload: W } = structs;
const END = maps.arena.valueSize;
const GOOD = 4096;
const ENDLESS = 8192;
const EMPTY = 12288;

it('tables that can be none are not adopted, and not in force', () => {
  const memory = Buffer.alloc(1 << 16);
  for (const [offset, size] of [
    [GOOD, 5000],
    [ENDLESS, END],
    [EMPTY, 0],
  ])
    memory.writeUInt32LE(size, offset + H.fields.size.offset);
  const workloads = Buffer.alloc(maps.workloads.entries * W.size);
  const word = (id: number) => id * W.size + W.fields.set.offset;
  const offsets = [GOOD, END + 4096, END + 4096, 0xffffffff, GOOD + 8, END - 8, ENDLESS, EMPTY, GOOD];
  for (const [i, offset] of offsets.entries())
    workloads.writeBigUInt64LE(BigInt(offset) | (7n << 32n), word(i + 1));
  const arena = new Arena(END);
  const held: number[] = [];
  const faults = adoptTables({
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
  expect(held).toEqual([GOOD]);
  expect(arena.bytesUsed).toBe(8192);
  const inForce = offsets.map((_, i) => workloads.readBigUInt64LE(word(i + 1)) !== 0n);
  expect(inForce).toEqual(offsets.map((offset) => offset === GOOD));
  // each once, however many workloads have it
  expect(faults).toHaveLength(6);
  expect(faults[0]).toContain(`at ${END + 4096} of the arena, which has ${END}`);
});
