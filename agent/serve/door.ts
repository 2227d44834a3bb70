import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { GrpcServer } from './grpc.js';

/** What every HTTP/2 connection begins with (RFC 9113, section 3.4). */
const PREFACE = 'PRI ';
/** How long a connection may say nothing at all; whoever watches is shown more often that it lives. In milliseconds. */
const SILENT_MS = 60_000;

/** One entrance for both: a connection that begins as HTTP/2 is gRPC's, any other HTTP/1.1's. */
export class Door {
  readonly #makeGrpc: () => Promise<GrpcServer>;
  #grpc: Promise<GrpcServer> | undefined;
  readonly #http: Server;
  readonly #open = new Set<Socket>();

  /** makeGrpc is asked once, when somebody comes who wants it. */
  constructor(
    makeGrpc: () => Promise<GrpcServer>,
    answer: (request: IncomingMessage, response: ServerResponse) => void,
  ) {
    this.#makeGrpc = makeGrpc;
    this.#http = createServer({ keepAliveTimeout: 5000, maxHeaderSize: 32 << 10 }, answer);
    this.#http.timeout = SILENT_MS;
  }

  take(socket: Socket): void {
    this.#open.add(socket);
    socket.on('close', () => this.#open.delete(socket));
    // a peer that resets says nothing that anyone needs to know
    socket.on('error', () => socket.destroy());
    socket.setTimeout(SILENT_MS, () => socket.destroy());
    const look = () => {
      const begin = socket.read() as Buffer | null;
      if (begin === null) return;
      socket.off('readable', look);
      socket.unshift(begin);
      if (begin.toString('latin1', 0, PREFACE.length) === PREFACE)
        this.#takeGrpc(socket).catch(() => socket.destroy());
      else this.#http.emit('connection', socket);
    };
    socket.on('readable', look);
  }

  async #takeGrpc(socket: Socket): Promise<void> {
    this.#grpc ??= this.#makeGrpc();
    const grpc = await this.#grpc;
    if (!socket.destroyed) grpc.take(socket);
  }

  async close(): Promise<void> {
    this.#http.closeAllConnections();
    const grpc = await this.#grpc;
    grpc?.close();
    for (const socket of this.#open) socket.destroy();
  }
}
