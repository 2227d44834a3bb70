import type { BelayRecord } from '../../event/record.js';
import { safeJson } from '../../event/safe-json.js';
import type { Format } from '../formats/format.js';
import { millisecondsOf } from '../formats/words.js';
import { readSecret, type Secret, type TlsFiles } from '../secret.js';
import type { Entry } from '../spool/frame.js';
import { NOTHING_REFUSED, type Outcome, type Transport } from '../transport.js';
import { HttpPoster } from './http.js';

export interface SplunkOptions {
  /** Of the collector, with `/services/collector/event`. */
  readonly url: string;
  readonly tls: TlsFiles;
  readonly format: Format;
  /** Whether `format` gives JSON. */
  readonly json: boolean;
  readonly sourceType: string;
  readonly token: Secret;
  readonly index?: string;
}

/** Splunk's HTTP Event Collector: one object an event, one after the other. */
export class Splunk implements Transport {
  readonly maxEntries = 1000;
  readonly maxBytes = 1 << 20;
  readonly gatherMs = 100;
  readonly #options: SplunkOptions;
  readonly #poster: HttpPoster;

  constructor(options: SplunkOptions) {
    this.#options = options;
    this.#poster = new HttpPoster(options.url, options.tls);
  }

  encode(record: BelayRecord): string {
    const { format, json, index, sourceType } = this.#options;
    const about = {
      time: (millisecondsOf(record) / 1000).toFixed(3),
      host: record.node,
      source: 'belay',
      sourcetype: sourceType,
      index,
      fields: { event_id: record.id },
    };
    const event = format(record);
    return `${safeJson(about).slice(0, -1)},"event":${json ? event : safeJson(event)}}\n`;
  }

  async send(entries: readonly Entry[], signal: AbortSignal): Promise<Outcome> {
    const body = Buffer.concat(entries.map(({ payload }) => payload));
    const authorization = `Splunk ${readSecret(this.#options.token)}`;
    await this.#poster.post(body, { 'content-type': 'application/json', authorization }, signal);
    return NOTHING_REFUSED;
  }

  async close(): Promise<void> {
    this.#poster.close();
  }
}
