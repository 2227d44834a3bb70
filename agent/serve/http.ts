import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Health } from './health.js';
import type { Metrics } from './metrics.js';

export interface HttpOptions {
  /** host:port, [IPv6 address]:port or :port. */
  readonly address: string;
  readonly metrics: Pick<Metrics, 'contentType' | 'text'>;
  readonly health: Pick<Health, 'trouble' | 'waiting'>;
}

/**
 * /metrics, /healthz and /readyz. Anyone who reaches the address may ask; nothing there changes anything.
 * @returns after it listens
 * @throws Error when the address cannot be had
 */
export async function serveHttp(
  options: HttpOptions,
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5000 }, (request, response) => {
    answer(request, response, options).catch((error: unknown) => {
      response.statusCode = 500;
      response.end(`${String(error)}\n`);
    });
  });
  server.maxConnections = 64;
  const [, host, port] = /^(.*):(\d+)$/.exec(options.address) ?? [];
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(Number(port), host?.replace(/^\[|\]$/g, '') || undefined, resolve);
  });
  return { port: (server.address() as AddressInfo).port, close: () => closed(server) };
}

async function answer(
  { method, url = '' }: IncomingMessage,
  response: ServerResponse,
  { metrics, health }: HttpOptions,
): Promise<void> {
  const say = (status: number, body: string, type = 'text/plain; charset=utf-8') => {
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
    response.end(method === 'HEAD' ? undefined : body);
  };
  const well = (trouble: string | undefined) =>
    say(trouble === undefined ? 200 : 503, `${trouble ?? 'ok'}\n`);
  if (method !== 'GET' && method !== 'HEAD') return say(405, 'only GET\n');
  const [path] = url.split('?');
  if (path === '/healthz') well(health.trouble());
  else if (path === '/readyz') well(health.waiting());
  else if (path === '/metrics') say(200, await metrics.text(), metrics.contentType);
  else say(404, 'there are /metrics, /healthz and /readyz\n');
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
