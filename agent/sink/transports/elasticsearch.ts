import type { BelayRecord } from '../../event/record.js';
import { safeJson } from '../../event/safe-json.js';
import type { Format } from '../formats/format.js';
import { rfc3339 } from '../formats/words.js';
import { readSecret, type Secret, type TlsFiles } from '../secret.js';
import type { Entry } from '../spool/frame.js';
import { Later, type Outcome, Refused, type Transport } from '../transport.js';
import { HttpPoster, printable } from './http.js';

export interface ElasticsearchOptions {
  /** Of the cluster; `/_bulk` is added. */
  readonly url: string;
  readonly tls: TlsFiles;
  readonly format: Format;
  /** An index or a data stream. */
  readonly index: string;
  readonly apiKey?: Secret;
  readonly username?: string;
  readonly password?: Secret;
}

interface Item {
  readonly status?: number;
  readonly error?: { readonly type?: string; readonly reason?: string };
}
interface BulkAnswer {
  readonly items?: readonly { readonly create?: Item }[];
}

/** Elasticsearch's (and OpenSearch's) bulk API. An event's id is the document's, so one that comes twice is there once. */
export class Elasticsearch implements Transport {
  readonly maxEntries = 1000;
  readonly maxBytes = 4 << 20;
  readonly gatherMs = 100;
  readonly #options: ElasticsearchOptions;
  readonly #poster: HttpPoster;

  constructor(options: ElasticsearchOptions) {
    this.#options = options;
    this.#poster = new HttpPoster(`${options.url.replace(/\/+$/, '')}/_bulk`, options.tls);
  }

  encode(record: BelayRecord): string {
    const { format, index } = this.#options;
    const action = safeJson({ create: { _index: index, _id: `${record.node}-${record.id}` } });
    const document = format(record);
    // data streams want the field, whatever the format
    const stamped = document.includes('"@timestamp":')
      ? document
      : `{"@timestamp":"${rfc3339(record)}",${document.slice(1)}`;
    return `${action}\n${stamped}\n`;
  }

  async send(entries: readonly Entry[], signal: AbortSignal): Promise<Outcome> {
    const body = Buffer.concat(entries.map(({ payload }) => payload));
    const headers = { 'content-type': 'application/x-ndjson', ...this.#authorization() };
    const answer = await this.#poster.post(body, headers, signal);
    const { items = [] } = JSON.parse(answer.body.toString('utf8')) as BulkAnswer;
    if (items.length !== entries.length)
      throw new Error(`the bulk answer has ${items.length} items for ${entries.length} documents`);
    const bad = items.flatMap(({ create = {} }, at) => (isThere(create) ? [] : [{ create, at }]));
    // those that were taken are found to be there (409) the next time
    const later = bad.find(({ create }) => create.status !== 400 && create.status !== 413);
    if (later) throw new Later(`some documents were ${answerOf(later.create)}`);
    if (bad[0] && bad.length === items.length)
      throw new Refused(`all documents were ${answerOf(bad[0].create)}`);
    return { refused: new Set(bad.map(({ at }) => at)) };
  }

  #authorization(): Record<string, string> {
    const { apiKey, username, password } = this.#options;
    if (apiKey !== undefined) return { authorization: `ApiKey ${readSecret(apiKey)}` };
    if (username === undefined || password === undefined) return {};
    const pair = Buffer.from(`${username}:${readSecret(password)}`).toString('base64');
    return { authorization: `Basic ${pair}` };
  }

  async close(): Promise<void> {
    this.#poster.close();
  }
}

const isThere = ({ status = 0 }: Item) => status === 409 || (status >= 200 && status < 300);

const answerOf = ({ status, error }: Item) =>
  `answered ${status} ${printable(`${error?.type ?? ''} ${error?.reason ?? ''}`)}`.trim();
