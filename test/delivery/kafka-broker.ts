import { createServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

/**
 * A Kafka broker as far as a producer sees one, by the published protocol: ApiVersions 0–2, Metadata 1 and Produce 3 with
 * record batches of magic 2, whose CRC-32C and lengths are checked. (Neither Debian nor npm has a broker.)
 */
export interface KafkaMessage {
  readonly key: string;
  readonly value: string;
  readonly headers: Readonly<Record<string, string>>;
}

export class KafkaBroker {
  readonly messages: KafkaMessage[] = [];
  /** The error code that produce requests are answered with, by request. */
  fail: () => number = () => 0;
  /** Of each connection by TLS: whom the client meant; false = it did not say. */
  readonly servernames: unknown[] = [];
  readonly #server;
  readonly #sockets = new Set<Socket>();
  readonly #topic: string;
  port = 0;

  constructor(topic: string, tls?: { readonly key: Buffer; readonly cert: Buffer }) {
    this.#topic = topic;
    const serve = (socket: Socket) => this.#serve(socket);
    this.#server =
      tls === undefined
        ? createServer(serve)
        : createTlsServer(tls, (socket) => {
            // not in @types/node
            this.servernames.push((socket as { servername?: unknown }).servername);
            serve(socket);
          });
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as { port: number }).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    let rest = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 4 && rest.length >= 4 + rest.readInt32BE(0)) {
        const end = 4 + rest.readInt32BE(0);
        const answer = this.#answer(new Reader(rest.subarray(4, end)));
        rest = rest.subarray(end);
        if (answer === undefined) return socket.destroy();
        socket.write(Buffer.concat([int32(answer.length), answer]));
      }
    });
  }

  #answer(request: Reader): Buffer | undefined {
    const api = request.int16();
    const version = request.int16();
    const correlation = int32(request.int32());
    request.text();
    if (api === 18) {
      const known = [
        [0, 3, 3],
        [3, 1, 1],
        [18, 0, 2],
      ].flatMap((each) => each.map(int16));
      return Buffer.concat([correlation, int16(0), int32(3), ...known, ...(version > 0 ? [int32(0)] : [])]);
    }
    if (api === 3 && version === 1) {
      const broker = [int32(1), int32(0), text('127.0.0.1'), int32(this.port), int16(-1)];
      const partition = [int16(0), int32(0), int32(0), int32(1), int32(0), int32(1), int32(0)];
      const topic = [int16(0), text(this.#topic), Buffer.from([0]), int32(1), ...partition];
      return Buffer.concat([correlation, ...broker, int32(0), int32(1), ...topic]);
    }
    return api === 0 && version === 3 ? Buffer.concat([correlation, this.#produce(request)]) : undefined;
  }

  #produce(request: Reader): Buffer {
    request.text();
    if (request.int16() !== -1) throw new Error('not every replica is asked for');
    request.int32();
    const topics: Buffer[] = [];
    const count = request.int32();
    const code = this.fail();
    for (let i = 0; i < count; i++) {
      const name = request.text();
      const partitions: Buffer[] = [];
      const parts = request.int32();
      for (let j = 0; j < parts; j++) {
        const index = request.int32();
        const found = readBatch(request.bytes(request.int32()));
        if (code === 0) this.messages.push(...found);
        partitions.push(int32(index), int16(code), int64(0), int64(-1));
      }
      topics.push(text(name), int32(parts), ...partitions);
    }
    return Buffer.concat([int32(count), ...topics, int32(0)]);
  }
}

function readBatch(bytes: Buffer): KafkaMessage[] {
  const batch = new Reader(bytes);
  batch.bytes(8);
  if (batch.int32() !== bytes.length - 12) throw new Error('the batch’s length is wrong');
  batch.int32();
  if (batch.bytes(1)[0] !== 2) throw new Error('not magic 2');
  if (batch.int32() >>> 0 !== crc32c(bytes.subarray(21))) throw new Error('the CRC is wrong');
  batch.bytes(2 + 4 + 8 + 8 + 8 + 2 + 4);
  return Array.from({ length: batch.int32() }, () => {
    batch.varint();
    batch.bytes(1);
    batch.varint();
    batch.varint();
    const key = batch.bytes(batch.varint()).toString();
    const value = batch.bytes(batch.varint()).toString();
    const headers = Array.from({ length: batch.varint() }, () => {
      const name = batch.bytes(batch.varint()).toString();
      return [name, batch.bytes(batch.varint()).toString()] as const;
    });
    return { key, value, headers: Object.fromEntries(headers) };
  });
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  bytes(length: number): Buffer {
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  int16 = () => this.bytes(2).readInt16BE(0);
  int32 = () => this.bytes(4).readInt32BE(0);

  text(): string {
    const length = this.int16();
    return length < 0 ? '' : this.bytes(length).toString();
  }

  /** Zigzag; of at most 53 bits. */
  varint(): number {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const [byte = 0] = this.bytes(1);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number((value >> 1n) ^ -(value & 1n));
    }
  }
}

const written = (size: number, write: (b: Buffer) => void) => {
  const b = Buffer.alloc(size);
  write(b);
  return b;
};
const int16 = (n: number) => written(2, (b) => b.writeInt16BE(n));
const int32 = (n: number) => written(4, (b) => b.writeInt32BE(n));
const int64 = (n: number) => written(8, (b) => b.writeBigInt64BE(BigInt(n)));
const text = (s: string) => Buffer.concat([int16(Buffer.byteLength(s)), Buffer.from(s)]);

/** Castagnoli's polynomial, bit by bit. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}
