import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { VERSION } from '../../cli/version.js';
import type { BelayRecord } from '../../event/record.js';
import type { Format } from '../formats/format.js';
import { attackOfRecord, placeOf, severityOf } from '../formats/words.js';
import { readSecret, type Secret, type TlsFiles, tlsOptions } from '../secret.js';
import type { Entry } from '../spool/frame.js';
import { Later, NOTHING_REFUSED, type Outcome, Refused, type Transport } from '../transport.js';
import { HttpPoster } from './http.js';
import { decodeResponse, encodeLogRecord, encodeRequest } from './otlp-messages.js';

const EXPORT = '/opentelemetry.proto.collector.logs.v1.LogsService/Export';

export interface OtlpOptions {
  /** grpc:// or grpcs:// host:port; http:// or https:// with the path (`/v1/logs`). */
  readonly url: string;
  readonly tls: TlsFiles;
  readonly format: Format;
  readonly token?: Secret;
}

/** Logs in OpenTelemetry's protocol: the text of the format is the body, and what collectors route by are attributes. */
export class Otlp implements Transport {
  readonly maxEntries = 2000;
  // collectors take 4 MiB by default
  readonly maxBytes = 3 << 20;
  readonly gatherMs = 100;
  readonly #options: OtlpOptions;
  readonly #post: (request: Buffer, signal: AbortSignal) => Promise<Uint8Array>;
  #closing: () => void = () => {};

  constructor(options: OtlpOptions) {
    this.#options = options;
    this.#post = /^grpcs?:/.test(options.url) ? this.#grpc() : this.#http();
  }

  encode(record: BelayRecord): Buffer {
    const { namespace, pod, container, containerId, cluster } = placeOf(record);
    const { techniques, subtechniques } = attackOfRecord(record);
    const severity = severityOf(record);
    const attributes: Record<string, string | number | boolean> = {
      'event.id': record.id,
      'host.name': record.node,
      'belay.type': record.type,
      ...(cluster && { 'k8s.cluster.name': cluster }),
      ...(namespace && { 'k8s.namespace.name': namespace }),
      ...(pod && { 'k8s.pod.name': pod }),
      ...(container && { 'k8s.container.name': container }),
      ...(containerId && { 'container.id': containerId }),
      ...(record.type === 'alert' && {
        'belay.verdict': record.verdict,
        'belay.policy': record.policy,
        'belay.severity': severity,
        'threat.technique.id': [...techniques, ...subtechniques].map(({ id }) => id).join(','),
      }),
    };
    return encodeLogRecord({
      timeUnixNano: record.time,
      // INFO, WARN, ERROR and FATAL of the log data model
      severityNumber: severity >= 9 ? 21 : severity >= 7 ? 17 : severity >= 4 ? 13 : 9,
      severityText: String(severity),
      eventName: `belay.${record.type}`,
      body: this.#options.format(record),
      attributes,
    });
  }

  async send(entries: readonly Entry[], signal: AbortSignal): Promise<Outcome> {
    const records = entries.map(({ payload }) => payload);
    const request = encodeRequest(records, { 'service.name': 'belay', 'service.version': VERSION }, VERSION);
    const { rejected } = decodeResponse(await this.#post(request, signal));
    if (rejected === 0) return NOTHING_REFUSED;
    // the protocol forbids to send again, and does not tell which
    if (rejected >= entries.length) return { refused: new Set(entries.keys()) };
    return { refused: new Set(), unattributed: rejected };
  }

  #token(): string | undefined {
    const { token } = this.#options;
    return token && `Bearer ${readSecret(token)}`;
  }

  #http(): (request: Buffer, signal: AbortSignal) => Promise<Uint8Array> {
    const poster = new HttpPoster(this.#options.url, this.#options.tls);
    this.#closing = () => poster.close();
    return async (request, signal) => {
      const authorization = this.#token();
      const headers = { 'content-type': 'application/x-protobuf', ...(authorization && { authorization }) };
      return (await poster.post(request, headers, signal)).body;
    };
  }

  #grpc(): (request: Buffer, signal: AbortSignal) => Promise<Uint8Array> {
    const { protocol, host } = new URL(this.#options.url);
    let client: Client | undefined;
    this.#closing = () => client?.close();
    return (request, signal) => {
      client ??= this.#connect(protocol === 'grpcs:', host);
      const metadata = new Metadata();
      const authorization = this.#token();
      if (authorization !== undefined) metadata.set('authorization', authorization);
      const to = client;
      const same = (bytes: Buffer) => bytes;
      return new Promise((resolve, reject) => {
        const call = to.makeUnaryRequest(EXPORT, same, same, request, metadata, (error, answer) => {
          signal.removeEventListener('abort', cancel);
          if (!error) return resolve(answer ?? new Uint8Array());
          // a certificate that was replaced is taken up by the next client
          to.close();
          client = undefined;
          reject(meaningOf(error));
        });
        const cancel = () => call.cancel();
        signal.addEventListener('abort', cancel);
      });
    };
  }

  #connect(secure: boolean, host: string): Client {
    const { tls } = this.#options;
    const { ca, key, cert } = tlsOptions(tls);
    const how = secure
      ? credentials.createSsl(ca as Buffer, key as Buffer, cert as Buffer)
      : credentials.createInsecure();
    const name = tls.serverName;
    return new Client(host, how, {
      ...(name !== undefined && { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name }),
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 5000,
    });
  }

  async close(): Promise<void> {
    this.#closing();
  }
}

/** Which codes may be tried again stands in OTLP's specification. */
function meaningOf(error: ServiceError): Error {
  const what = `${status[error.code]}: ${error.details}`;
  return error.code === status.INVALID_ARGUMENT || error.code === status.OUT_OF_RANGE
    ? new Refused(what)
    : new Later(what);
}
