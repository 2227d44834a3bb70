import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { FORMATS } from '../../agent/sink/formats/format.js';
import { Syslog } from '../../agent/sink/transports/syslog.js';
// @ts-expect-error plain JavaScript, which also runs by itself
import { certificate } from '../delivery/peers.mjs';

let directory: string;
let files: { key: string; cert: string };
let server: Server | undefined;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-syslog-'));
  files = certificate(directory);
});
afterEach(() => void server?.close());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A peer over TLS that does with each connection as it is told, and a way to send it `bytes` bytes. */
async function peerOf(each: (socket: TLSSocket, nth: number) => void) {
  const { key, cert } = files;
  let connections = 0;
  const listening = createServer(
    { key: readFileSync(key), cert: readFileSync(cert), allowHalfOpen: true },
    (socket) => {
      socket.on('error', () => {});
      each(socket, ++connections);
    },
  );
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const { port } = listening.address() as AddressInfo;
  const tls = { caFile: cert, serverName: 'localhost' };
  const syslog = new Syslog({ protocol: 'tls', host: '127.0.0.1', port, tls, format: FORMATS.belay });
  return (bytes = 1000) => {
    const entry = { workload: '', id: '1', count: 1, urgent: false, payload: Buffer.alloc(bytes, 'x') };
    return syslog.send([entry], AbortSignal.timeout(10_000));
  };
}
/** It is killed once it has read everything: the kernel then ends its connection, in good order. */
const killed = (socket: TLSSocket) => socket.resume().once('end', () => socket.destroy());
const well = (socket: TLSSocket) => socket.resume().once('end', () => socket.end());

test('what a peer had read when it was killed is not delivered', async () => {
  const send = await peerOf((socket, nth) => (nth === 1 ? killed(socket) : well(socket)));
  await expect(send()).rejects.toThrow('without close_notify');
  await send();
});

test('what a peer had not read when it said farewell is not delivered', async () => {
  const send = await peerOf((socket, nth) => {
    if (nth > 1) return well(socket);
    // some of it has come, and stays where it is
    setTimeout(() => socket.end(() => socket.destroy()), 100);
  });
  await expect(send(500_000)).rejects.toThrow('before everything was read');
  await send(500_000);
});

test('a peer that never says farewell is believed in the end', async () => {
  const send = await peerOf(killed);
  for (let i = 0; i < 7; i++) await expect(send()).rejects.toThrow('without close_notify');
  await send();
  await send();
});
