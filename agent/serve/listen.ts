import { chmodSync, chownSync, mkdirSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { type AddressInfo, createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import type { Peer } from '../kernel/addon.js';
import type { TlsFiles } from './tls-files.js';

const MAX_CONNECTIONS = 128;

export interface Listener {
  /** Of a TCP port. */
  readonly port: number;
  close(): Promise<void>;
}

export interface UnixOptions {
  /** Absolute; its directory is made if it is not there. */
  readonly path: string;
  /** Whose members may connect besides root. */
  readonly group?: number;
  readonly peer: (fd: number) => Peer;
  readonly take: (socket: Socket) => void;
  readonly log: Logger;
}

/**
 * A unix socket for root and a group: by the socket's mode, and by who the kernel says has connected.
 * @returns after it listens, in place of whoever listened there
 * @throws Error when the path cannot be had
 */
export async function listenUnix(options: UnixOptions): Promise<Listener> {
  const { path, group, take, log } = options;
  const mine = process.geteuid?.() ?? 0;
  const server = createServer((socket) => {
    const peer = peerOf(socket, options.peer);
    const { uid, gids = [] } = peer ?? {};
    if (uid === 0 || uid === mine || (group !== undefined && gids.includes(group))) return take(socket);
    log.warn({ path, peer }, 'a connection to the socket was refused: only root and the group may');
    socket.destroy();
  });
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  // Under another name until it is ready: an agent that still listens at the path is replaced in one step, and closing
  // that one later, which removes the name it was made under, does not take this one's away.
  const making = `${path}.${process.pid}`;
  const port = await listening(server, { path: making });
  try {
    if (group !== undefined) chownSync(making, -1, group);
    chmodSync(making, group === undefined ? 0o600 : 0o660);
    renameSync(making, path);
  } catch (error) {
    server.close();
    throw error;
  }
  const { ino } = statSync(path);
  const remove = () => {
    try {
      if (statSync(path).ino === ino) unlinkSync(path);
    } catch {
      // it is gone already
    }
  };
  const close = async () => {
    remove();
    await closed(server);
  };
  return { port, close };
}

function peerOf(socket: Socket, peer: (fd: number) => Peer): Peer | undefined {
  // Node has no other way to a connection's descriptor
  const fd = (socket as { _handle?: { fd?: number } })._handle?.fd;
  try {
    return fd === undefined || fd < 0 ? undefined : peer(fd);
  } catch {
    return undefined; // it has gone already
  }
}

export interface TcpOptions {
  /** host:port, [IPv6 address]:port or :port. */
  readonly address: string;
  readonly tls?: TlsFiles;
  /** A client without a certificate is heard nevertheless: it may have a token. */
  readonly certificateOptional: boolean;
  readonly take: (socket: Socket) => void;
}

/**
 * @returns after it listens
 * @throws Error when the address cannot be had
 */
export async function listenTcp(options: TcpOptions): Promise<Listener> {
  const { tls, take } = options;
  const [, host = '', port] = /^(.*):(\d+)$/.exec(options.address) ?? [];
  const where = { host: host.replace(/^\[|\]$/g, '') || undefined, port: Number(port) };
  if (tls === undefined) {
    const server = createServer(take);
    return { port: await listening(server, where), close: () => closed(server) };
  }
  const certificates = tls.hasClientAuthority;
  const server = createTlsServer(
    {
      ...tls.options,
      ALPNProtocols: ['h2', 'http/1.1'],
      requestCert: certificates,
      rejectUnauthorized: certificates && !options.certificateOptional,
      handshakeTimeout: 10_000,
    },
    (socket: TLSSocket) => {
      // one that shows a bad certificate is not let in by other means
      if (certificates && !socket.authorized && socket.getPeerCertificate().raw !== undefined)
        return socket.destroy();
      take(socket);
    },
  );
  // what is not TLS, or has no good certificate
  server.on('tlsClientError', (_, socket) => socket.destroy());
  // below TLS, so that those in the middle of a handshake are among them
  const open = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  let { ca } = tls.options;
  tls.onChange((fresh) => {
    server.setSecureContext(fresh);
    // whom an authority has let in that may be none any more has to show itself anew
    if (fresh.ca !== ca) for (const socket of open) socket.destroy();
    ca = fresh.ca;
  });
  return { port: await listening(server, where), close: () => closed(server) };
}

async function listening(server: Server, where: ListenOptions): Promise<number> {
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, resolve);
  });
  const address = server.address() as AddressInfo | string | null;
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Connections are their door's to end. */
function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
