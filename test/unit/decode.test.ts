import { expect, test } from 'vitest';
import { EventReader } from '../../agent/event/decode.js';
import { logRecord } from '../../agent/event/make-record.js';
import { enums, structs } from '../../agent/kernel/abi.js';
import { BATCH_HEAD as HEAD } from '../../agent/kernel/addon.js';
// @ts-expect-error plain JavaScript, which also runs by itself
import { batchOf } from '../bench/recorded.mjs';

const E = structs.event.fields;
const O = enums.operation;

test('a batch’s records are read in order, each with its fields and strings', () => {
  const reader = new EventReader();
  reader.open(batchOf(20, 4));
  const found = [];
  const positions = [];
  while (reader.next()) {
    found.push([reader.workload, reader.pid, reader.port, reader.object.toString(), reader.address.at(3)]);
    positions.push(reader.position);
  }
  expect(found).toHaveLength(20);
  expect(found[5]).toEqual([1, 4005, 0, '/var/lib/app/data/1/shard-5/segment.db', 5]);
  expect(positions.slice(0, 3)).toEqual([0, 512, 1024]);
  expect(found[8]).toEqual([0, 4008, 443, '', 8]);
});

test('what is kept outlives its batch, with another time and count if asked for', () => {
  const batch: Buffer = batchOf(3, 4);
  const reader = new EventReader();
  reader.open(batch);
  reader.next();
  reader.next();
  const kept = reader.kept();
  const again = kept.kept({ time: 5n, count: 9n });
  batch.fill(0);
  expect(kept).toMatchObject({ workload: 1, count: 1n, time: 1_000_001_000n });
  expect(kept.arguments.toString()).toBe('java\0-jar\0/app/service.jar\0');
  expect(again).toMatchObject({ workload: 1, count: 9n, time: 5n });
  expect(again.program.toString()).toBe('/usr/lib/jvm/java-17-openjdk-amd64/bin/java');
});

test('a batch that ends too early gives what is there', () => {
  const reader = new EventReader();
  reader.open(batchOf(2, 1).subarray(0, 4));
  expect(reader.next()).toBe(false);
});

test.each([
  ['it ends behind the batch', 100_000],
  ['its length is no length', 0xfffffff0],
])('a record that cannot be one ends its batch, and is counted: %s', (_, length) => {
  const batch: Buffer = batchOf(20, 4);
  batch.writeUInt32LE(length, batchOf(5, 4).length + 4);
  const reader = new EventReader();
  reader.open(batch);
  let read = 0;
  while (reader.next()) read++;
  expect([read, reader.broken]).toEqual([5, 1]);
});

test('strings end with their record, however long they are said to be', () => {
  const batch: Buffer = batchOf(2, 1);
  batch.writeUInt32LE(100_000, HEAD + E.object_length.offset);
  const reader = new EventReader();
  reader.open(batch);
  reader.next();
  expect(reader.object.toString()).toBe('/var/lib/app/data/0/shard-0/segment.db');
  batch.writeUInt16LE(65_535, HEAD + E.program_length.offset);
  expect([reader.parent, reader.arguments, reader.object].map(({ length }) => length)).toEqual([0, 0, 0]);
});

test('a record with less than its fields need is passed over and counted', () => {
  const short = Buffer.alloc(HEAD + 8);
  short.writeUInt32LE(3, 4);
  const reader = new EventReader();
  reader.open(Buffer.concat([batchOf(2, 1), short, batchOf(1, 1)]));
  let read = 0;
  while (reader.next()) read++;
  expect([read, reader.broken]).toEqual([3, 1]);
});

test.each([
  ['a new process', O.OPERATION_FORK],
  ['an exit', O.OPERATION_EXIT],
  ['credentials', O.OPERATION_CAPSET],
  ['a system call', O.OPERATION_SYSCALL],
])('an object that is too short for what it is says nothing: %s', (_, operation) => {
  const batch: Buffer = batchOf(1, 1);
  batch[HEAD + E.operation.offset] = operation;
  batch.writeUInt32LE(2, HEAD + E.object_length.offset);
  const reader = new EventReader();
  reader.open(batch);
  reader.next();
  const context = { node: 'n', cluster: 'c', bootTime: 0n, id: '1', sequence: 1n };
  expect(logRecord(reader, { workload: undefined, rule: undefined }, context).object).toEqual({});
});

test('records that a filter drops cost no object', () => {
  const batch = batchOf(2500, 10);
  const reader = new EventReader();
  let wanted = 0;
  const read = () => {
    reader.open(batch);
    while (reader.next()) if (reader.workload === 10 && reader.operation === 1) wanted++;
  };
  for (let i = 0; i < 200; i++) read();
  const growths = Array.from({ length: 5 }, () => {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 40; i++) read();
    return process.memoryUsage().heapUsed - before;
  });
  // 100 000 records: an object for each would be megabytes; a collection in between may make it less than nothing
  expect(growths.toSorted((a, b) => a - b)[2]).toBeLessThan(500_000);
  expect(wanted).toBe(0);
});
