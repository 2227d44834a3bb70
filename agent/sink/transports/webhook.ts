import type { BelayRecord } from '../../event/record.js';
import type { Format } from '../formats/format.js';
import { readSecret, type Secret, type TlsFiles } from '../secret.js';
import type { Entry } from '../spool/frame.js';
import { NOTHING_REFUSED, type Outcome, type Transport } from '../transport.js';
import { HttpPoster } from './http.js';

export interface WebhookOptions {
  readonly url: string;
  readonly tls: TlsFiles;
  readonly format: Format;
  /** Of what `format` gives. */
  readonly contentType: string;
  /** Sent as a bearer token. */
  readonly token?: Secret;
}

/** A line for each record, posted; a 2xx answer says that the peer has them. */
export class Webhook implements Transport {
  readonly maxEntries = 2000;
  readonly maxBytes = 2 << 20;
  readonly gatherMs = 100;
  readonly #options: WebhookOptions;
  readonly #poster: HttpPoster;

  constructor(options: WebhookOptions) {
    this.#options = options;
    this.#poster = new HttpPoster(options.url, options.tls);
  }

  encode(record: BelayRecord): string {
    return `${this.#options.format(record)}\n`;
  }

  async send(entries: readonly Entry[], signal: AbortSignal): Promise<Outcome> {
    const { token, contentType } = this.#options;
    const body = Buffer.concat(entries.map(({ payload }) => payload));
    const headers = {
      'content-type': contentType,
      ...(token && { authorization: `Bearer ${readSecret(token)}` }),
    };
    await this.#poster.post(body, headers, signal);
    return NOTHING_REFUSED;
  }

  async close(): Promise<void> {
    this.#poster.close();
  }
}
