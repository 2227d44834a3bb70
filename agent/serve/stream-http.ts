import type { IncomingMessage, ServerResponse } from 'node:http';
import type { BelayRecord } from '../event/record.js';
import { safeJson } from '../event/safe-json.js';
import { type Authenticate, bearerOf, Refusal } from './access.js';
import { certificateOf } from './certificate.js';
import { EVERYTHING, type Filter, SINCE_FORM, sinceOf } from './filter.js';
import type { Outlet, Watch, WatchRequest } from './watch.js';

const STATUS: Readonly<Record<Refusal['kind'], number>> = {
  ...{ unauthenticated: 401, forbidden: 403, invalid: 400, busy: 429, unavailable: 503 },
};

const PARAMETERS: Readonly<Record<string, keyof Filter | 'after' | 'follow'>> = {
  namespace: 'namespaces',
  pod: 'pods',
  type: 'types',
  class: 'classes',
  policy: 'policies',
  verdict: 'verdicts',
  severity: 'minSeverity',
  since: 'since',
  after: 'after',
  follow: 'follow',
};

/**
 * GET /v1/events: records, a JSON object a line, or as server-sent events for who accepts those: those that are remembered,
 * and then others as they come. The query says which (`namespace=shop&verdict=Denied&severity=5`), and from where on (`after`,
 * a sequence number or `now`; `since`, a time or a span); `follow=false` ends when there is nothing more at the moment. A browser's
 * EventSource goes on where it was.
 */
export async function streamHttp(
  request: IncomingMessage,
  response: ServerResponse,
  { watch, authenticate }: { readonly watch: Watch; readonly authenticate: Authenticate },
): Promise<void> {
  const events = (request.headers.accept ?? '').includes('text/event-stream');
  try {
    const wanted = requestOf(request);
    const access = await authenticate({
      certificate: certificateOf(peerOf(request)),
      bearer: bearerOf(request.headers.authorization),
    });
    await watch.serve(access, wanted, outletOf(response, events));
    response.end();
  } catch (error) {
    if (response.destroyed) return;
    const known = error instanceof Refusal ? error : undefined;
    // a stream that has begun can only break off
    if (response.headersSent) return void response.destroy();
    const status = known === undefined ? 500 : STATUS[known.kind];
    response.writeHead(status, {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      ...(status === 401 && { 'www-authenticate': 'Bearer' }),
    });
    response.end(`${safeJson({ error: known?.message ?? String(error) })}\n`);
  }
}

function peerOf({ socket }: IncomingMessage): import('node:tls').PeerCertificate | undefined {
  const tls = socket as Partial<import('node:tls').TLSSocket>;
  return tls.authorized === true ? tls.getPeerCertificate?.() : undefined;
}

/** @throws Refusal */
function requestOf({ url = '', headers }: IncomingMessage): WatchRequest {
  const query = new URL(url, 'http://localhost').searchParams;
  const fault = (name: string, what: string) => new Refusal('invalid', `${name} must be ${what}`);
  const whole = (name: string, text: string) => {
    if (!/^\d{1,19}$/.test(text))
      throw fault(name, name === 'after' ? 'a sequence number (a whole number), or now' : 'a whole number');
    return BigInt(text);
  };
  const filter: Record<string, unknown> = { ...EVERYTHING };
  for (const name of new Set(query.keys())) {
    const field = PARAMETERS[name];
    if (field === undefined)
      throw new Refusal(
        'invalid',
        `there is no parameter "${name}"; there are ${Object.keys(PARAMETERS).join(', ')}`,
      );
    const values = query.getAll(name).flatMap((value) => value.split(','));
    if (field === 'minSeverity') filter.minSeverity = Number(whole(name, values[0]));
    else if (field === 'since') {
      filter.since = sinceOf(values[0]);
      if (filter.since === undefined) throw fault(name, SINCE_FORM);
    } else if (field !== 'after' && field !== 'follow') filter[field] = values;
  }
  const follow = query.get('follow') ?? 'true';
  if (follow !== 'true' && follow !== 'false') throw fault('follow', 'true or false');
  const last = headers['last-event-id'];
  const after = (typeof last === 'string' && last !== '' ? last : query.get('after')) ?? '0';
  return {
    filter: filter as unknown as Filter,
    ...(after !== 'now' && { after: whole('after', after) }),
    untilNow: follow === 'false',
  };
}

function outletOf(response: ServerResponse, events: boolean): Outlet {
  return {
    begin: () => {
      response.writeHead(200, {
        'content-type': events ? 'text/event-stream' : 'application/x-ndjson',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
      });
      response.flushHeaders();
    },
    get gone() {
      return response.destroyed || response.closed;
    },
    onGone: (listener) => response.on('close', listener),
    write: (record) => response.write(events ? eventOf(record) : `${safeJson(record)}\n`),
    drained: () =>
      new Promise((resolve) => {
        if (response.destroyed || !response.writableNeedDrain) return resolve();
        const done = () => {
          response.off('drain', done);
          response.off('close', done);
          resolve();
        };
        response.on('drain', done);
        response.on('close', done);
      }),
    // the one thing that both kinds of readers skip: a comment, or an empty line
    beat: () => void response.write(events ? ':\n\n' : '\n'),
  };
}

/** JSON has no line breaks of its own, so a record is one line of data. */
function eventOf(record: BelayRecord): string {
  const id = record.sequence === '0' ? '' : `id: ${record.sequence}\n`;
  return `${id}event: ${record.type}\ndata: ${safeJson(record)}\n\n`;
}
