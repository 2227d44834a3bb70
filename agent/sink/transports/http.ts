import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { type TlsFiles, tlsOptions } from '../secret.js';
import { Later, Refused } from '../transport.js';

const ANSWER_BYTES = 16 << 20;
const IDLE_MS = 30_000;

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/** Posts to one address, over connections that are kept. */
export class HttpPoster {
  readonly #url: URL;
  readonly #tls: TlsFiles;
  #agent: HttpAgent | HttpsAgent | undefined;

  constructor(url: string, tls: TlsFiles) {
    this.#url = new URL(url);
    this.#tls = tls;
  }

  /**
   * @throws Refused when the contents are at fault (400, 413, 422); Later when the peer asks for time; any other error
   * when there was no answer, or one that says nothing of the contents
   */
  async post(body: Buffer, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Answer> {
    const secure = this.#url.protocol === 'https:';
    this.#agent ??= secure
      ? new HttpsAgent({ keepAlive: true, maxSockets: 2, timeout: IDLE_MS, ...tlsOptions(this.#tls) })
      : new HttpAgent({ keepAlive: true, maxSockets: 2, timeout: IDLE_MS });
    const options = {
      method: 'POST',
      agent: this.#agent,
      headers: { 'user-agent': 'belay', 'content-length': String(body.length), ...headers },
      signal,
    };
    try {
      return await new Promise<Answer>((resolve, reject) => {
        const take = (response: IncomingMessage) => collect(response).then(resolve, reject);
        const request = secure
          ? requestHttps(this.#url, options, take)
          : requestHttp(this.#url, options, take);
        request.once('error', reject);
        request.end(body);
      });
    } catch (error) {
      // a certificate that was replaced is taken up by the next agent; one that has expired is answered 400 by some
      this.#agent?.destroy();
      this.#agent = undefined;
      if (error instanceof Refused || error instanceof Later) throw error;
      throw new Error(`${this.#url.host}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  close(): void {
    this.#agent?.destroy();
  }
}

async function collect(response: IncomingMessage): Promise<Answer> {
  const status = response.statusCode ?? 0;
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    length += part.length;
    if (length <= ANSWER_BYTES) parts.push(part);
  }
  const body = Buffer.concat(parts);
  if (status >= 200 && status < 300) return { status, body };
  const what = `answered ${status} ${printable(body.toString('utf8', 0, 200))}`.trim();
  if (status === 400 || status === 413 || status === 422) throw new Refused(what);
  throw new Later(what, retryAfter(response.headers['retry-after']));
}

/** For a message. */
export const printable = (text: string) => text.slice(0, 200).replaceAll(/[^\x20-\x7e]+/g, ' ');

/** RFC 9110: seconds, or a date; in milliseconds, an hour at most. */
function retryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(milliseconds) ? undefined : Math.min(3_600_000, Math.max(0, milliseconds));
}
