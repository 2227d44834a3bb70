import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import type { BelayRecord } from '../../event/record.js';
import type { Format } from '../formats/format.js';
import { fitting } from '../formats/shorten.js';
import { rfc3339, severityOf } from '../formats/words.js';
import { type TlsFiles, tlsOptions } from '../secret.js';
import type { Entry } from '../spool/frame.js';
import { NOTHING_REFUSED, type Outcome, type Transport } from '../transport.js';

/** "Security/authorization messages" that are not for everyone's eyes. */
const FACILITY = 10;
/** What rsyslog takes by default; RFC 5424 asks receivers for 2048. */
const MESSAGE_BYTES = 8192;
const CONNECT_MS = 10_000;
/**
 * A peer that so often in a row ended without close_notify never sends it, and is taken at its word. Beyond the failures after
 * which batches are small: that it crashed each time is then out of the question.
 */
const UNANSWERED = 7;
/** What a peer closed before it had come is answered with a reset within so long and a round trip. */
const SETTLE_MS = 50;
const UNREAD = 'the connection ended before everything was read';

export interface SyslogOptions {
  readonly protocol: 'udp' | 'tcp' | 'tls';
  readonly host: string;
  readonly port: number;
  readonly tls: TlsFiles;
  readonly format: Format;
}

/**
 * RFC 5424 messages. Over TCP (RFC 6587) and TLS (RFC 5425) with octet counting; over UDP (RFC 5426) one a datagram.
 *
 * Syslog has no acknowledgement: what was written to a connection may never have been read. So every batch has a connection
 * of its own, which counts as delivered when this side has ended it, and the peer then has ended it too and reported no
 * fault: it has read everything before it saw the end. Any other end, and the whole batch is sent again.
 *
 * With TLS this side ends by close_notify alone, and the peer must too: one that is killed after it has read and before it
 * has recorded cannot. The connection stays open on this side until a peer that ended of its own accord would have reset it
 * for what came too late. With TCP alone neither can be told. Over UDP nothing can be known, and a datagram that has left
 * counts.
 */
export class Syslog implements Transport {
  readonly maxEntries = 10_000;
  readonly maxBytes = 4 << 20;
  readonly gatherMs: number;
  readonly #options: SyslogOptions;
  #session: Buffer | undefined;
  #unanswered = 0;
  #datagrams: DatagramSocket | undefined;

  constructor(options: SyslogOptions) {
    this.#options = options;
    this.gatherMs = options.protocol === 'udp' ? 0 : 250;
  }

  encode(record: BelayRecord): string | undefined {
    return fitting(record, MESSAGE_BYTES, (each) => `${headerOf(each)} ${this.#options.format(each)}`);
  }

  async send(entries: readonly Entry[], signal: AbortSignal): Promise<Outcome> {
    await (this.#options.protocol === 'udp'
      ? this.#sendDatagrams(entries)
      : this.#sendStream(entries, signal));
    return NOTHING_REFUSED;
  }

  async #sendDatagrams(entries: readonly Entry[]): Promise<void> {
    const { host, port } = this.#options;
    if (this.#datagrams === undefined) {
      this.#datagrams = createSocket(isIP(host) === 6 ? 'udp6' : 'udp4');
      this.#datagrams.on('error', () => {});
      this.#datagrams.unref();
    }
    const socket = this.#datagrams;
    for (const { payload } of entries) {
      await new Promise<void>((resolve, reject) =>
        socket.send(payload, port, host, (error) => (error ? reject(error) : resolve())),
      );
    }
  }

  #sendStream(entries: readonly Entry[], signal: AbortSignal): Promise<void> {
    const { host, port, protocol, tls } = this.#options;
    const parts = entries.flatMap(({ payload }) => [Buffer.from(`${payload.length} `), payload]);
    const bytes = Buffer.concat(parts);
    return new Promise((resolve, reject) => {
      // first, since files that are at fault throw
      const context = protocol === 'tls' ? createSecureContext(tlsOptions(tls)) : undefined;
      const connection = connectTcp({ host, port, allowHalfOpen: context !== undefined });
      const secured = context && this.#secure(connection, context);
      const socket = secured ?? connection;
      let ended = false;
      let fault: string | undefined;
      const fail = (error: Error) => {
        fault ??= error.message;
        secured?.destroy();
        connection.destroy();
      };
      const abort = () => fail(new Error('no end of the connection in time'));
      signal.addEventListener('abort', abort);
      const timer = setTimeout(() => fail(new Error('no connection in time')), CONNECT_MS);
      socket.once(secured ? 'secureConnect' : 'connect', () => {
        clearTimeout(timer);
        socket.end(bytes, () => {
          ended = true;
        });
      });
      // what the peer says is of no interest, but must be read for its end to be seen
      socket.resume();
      let notified = false;
      let settling: NodeJS.Timeout | undefined;
      if (secured !== undefined) {
        const begun = performance.now();
        let trip = 0;
        connection.once('connect', () => {
          trip = performance.now() - begun;
        });
        const settle = () => {
          settling ??= setTimeout(
            () => {
              // a connection that was reset has no other side any more
              if (connection.remoteAddress === undefined) fault ??= UNREAD;
              connection.destroy();
            },
            SETTLE_MS + 2 * trip,
          );
        };
        connection.once('end', settle);
        secured.once('end', () => {
          notified = true;
          settle();
        });
      }
      socket.on('error', fail);
      connection.on('error', fail);
      connection.once('close', () => {
        clearTimeout(timer);
        clearTimeout(settling);
        signal.removeEventListener('abort', abort);
        secured?.destroy();
        if (!ended) fault ??= UNREAD;
        if (fault === undefined && secured !== undefined) fault = this.#faultOf(notified);
        if (fault === undefined) resolve();
        else reject(new Error(`syslog ${host}:${port}: ${fault}`));
      });
    });
  }

  /** RFC 5425, 4.4: a receiver answers our close_notify, and one that was killed cannot. */
  #faultOf(notified: boolean): string | undefined {
    this.#unanswered = notified ? 0 : this.#unanswered + 1;
    if (notified || this.#unanswered > UNANSWERED) return undefined;
    return 'the connection ended without close_notify';
  }

  /** TLS that ends by close_notify only: to Node's own, the end of the connection below it is the same. */
  #secure(connection: Socket, secureContext: SecureContext): TLSSocket {
    const { host, tls } = this.#options;
    const below = new Duplex({
      read: () => connection.resume(),
      write: (chunk, _, done) => connection.write(chunk, done),
      destroy: (error, done) => {
        // its end is still to be seen
        connection.resume();
        done(error);
      },
    });
    connection.on('data', (chunk) => {
      if (!below.destroyed && !below.push(chunk)) connection.pause();
    });
    const servername = tls.serverName ?? (isIP(host) === 0 ? host : undefined);
    const socket = connectTls({
      ...{ host, socket: below, secureContext, session: this.#session },
      ...(servername !== undefined && { servername }),
    });
    socket.allowHalfOpen = true;
    socket.on('session', (session: Buffer) => {
      this.#session = session;
    });
    return socket;
  }

  async close(): Promise<void> {
    this.#datagrams?.close();
    this.#datagrams = undefined;
  }
}

/** Severity of RFC 5424 (0 emergency to 7 debug). */
function levelOf(record: BelayRecord): number {
  const severity = severityOf(record);
  if (record.type === 'exec' || record.type === 'log') return 6;
  if (severity >= 9) return 2;
  if (severity >= 7) return 3;
  return severity >= 4 ? 4 : 5;
}

/** `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA`. */
function headerOf(record: BelayRecord): string {
  const time = rfc3339(record);
  // six digits of a second are the most that may stand there
  const timestamp = `${time.slice(0, 26)}Z`;
  const host = printable(record.node, 255);
  const sequence = ((Number(BigInt(record.sequence) % 0x7fffffffn) + 0x7fffffff - 1) % 0x7fffffff) + 1;
  const id = `[meta sequenceId="${sequence}"]`;
  return `<${FACILITY * 8 + levelOf(record)}>1 ${timestamp} ${host} belay - ${printable(record.type, 32)} ${id}`;
}

/** PRINTUSASCII, or the nil value. */
function printable(text: string, length: number): string {
  return text.replace(/[^\x21-\x7e]/g, '').slice(0, length) || '-';
}
