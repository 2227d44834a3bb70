// Peers as they are in life: slow, failing, gone for a while. Each keeps account of what it has *accepted*: a syslog peer
// what it read whole before the connection ended well or not, an HTTP peer what it answered with 2xx or took and then failed.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { join } from 'node:path';
import { createServer as createTls } from 'node:tls';

/** A key and a certificate of localhost's, its own authority. */
export function certificate(directory) {
  const key = join(directory, 'key.pem');
  const cert = join(directory, 'cert.pem');
  const command = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  execFileSync('openssl', [...command, ...names, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  return { key, cert };
}

/** What one peer has, by event's number; and the gaps it was told of, each once. */
export class Account {
  constructor(events) {
    this.seen = new Uint8Array(events);
    this.twice = 0;
    this.lost = new Map();
    this.gaps = new Set();
  }

  take(message) {
    const at = message.indexOf('"id":"') + 6;
    const id = message.toString('latin1', at, message.indexOf('"', at));
    if (id.startsWith('ring-')) {
      const i = Number(id.slice(5));
      if (this.seen[i]) this.twice++;
      this.seen[i] = 1;
      return;
    }
    const { type, pod, lost } = JSON.parse(message.toString('utf8', message.indexOf('{')));
    if (type !== 'gap') throw new Error(`an event of no known kind: ${message}`);
    if (this.gaps.has(id)) return;
    this.gaps.add(id);
    this.lost.set(pod, (this.lost.get(pod) ?? 0) + Number(lost));
  }
}

/** Octet-counted messages of a stream; what is not whole stays. */
export function* messagesOf(bytes) {
  let at = 0;
  while (at < bytes.length) {
    const blank = bytes.indexOf(0x20, at);
    if (blank < 0) break;
    const length = Number(bytes.toString('latin1', at, blank));
    if (!Number.isInteger(length)) throw new Error('not an octet count');
    if (blank + 1 + length > bytes.length) break;
    yield bytes.subarray(blank + 1, blank + 1 + length);
    at = blank + 1 + length;
  }
  return at;
}

export async function syslogPeer({ key, cert }, account, trouble, port = 0) {
  /** Connections, by the other side's port. */
  const connections = new Map();
  // as a kernel does for a process that is killed: it resets what was not read; and where the process had read everything, and
  // not all was recorded, it ends the connection in good order, if without TLS's farewell
  const kill = (connection) => (Math.random() < 0.5 ? connection.resetAndDestroy() : connection.destroy());
  const server = createTls({ key: readFileSync(key), cert: readFileSync(cert) }, (socket) => {
    const { remotePort } = socket;
    let over = false;
    let rest = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      // what was under way still comes
      if (over || socket.destroyed) return;
      over = trouble.resets();
      if (over) return kill(connections.get(remotePort));
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      const messages = messagesOf(rest);
      let step = messages.next();
      for (; !step.done; step = messages.next()) account.take(step.value);
      rest = rest.subarray(step.value);
      const pause = trouble.pause();
      if (pause > 0) {
        socket.pause();
        setTimeout(() => socket.resume(), pause);
      }
    });
    socket.on('error', () => {});
  });
  server.on('connection', (connection) => {
    const { remotePort } = connection;
    connections.set(remotePort, connection);
    connection.on('error', () => {});
    connection.on('close', () => connections.delete(remotePort));
  });
  server.on('tlsClientError', () => {});
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    stop: () =>
      new Promise((resolve) => {
        for (const connection of connections.values()) kill(connection);
        server.close(resolve);
      }),
  };
}

export async function httpPeer(account, trouble, port = 0) {
  const server = createHttp(async (request, response) => {
    const parts = [];
    try {
      for await (const part of request) parts.push(part);
    } catch {
      return;
    }
    const what = trouble.answer();
    const take = () => {
      const body = Buffer.concat(parts);
      for (let at = 0; at < body.length; ) {
        const end = body.indexOf(0x0a, at);
        account.take(body.subarray(at, end));
        at = end + 1;
      }
    };
    await new Promise((resolve) => setTimeout(resolve, trouble.pause()));
    if (what === 'reset') return request.socket.destroy();
    if (what === 'taken-and-reset') {
      take();
      return request.socket.destroy();
    }
    if (what === 'ok') take();
    response.writeHead(what === 'ok' ? 200 : what, what === 429 ? { 'retry-after': '0' } : {});
    response.end();
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    stop: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(resolve);
      }),
  };
}
