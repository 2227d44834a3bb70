import { getEventListeners } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { pino } from 'pino';
import { afterEach, expect, it, vi } from 'vitest';
import { KubeApi } from '../../agent/control/api.js';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function apiThat(answers: RequestListener): Promise<KubeApi> {
  const server = createServer(answers);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const kube = new KubeConfig();
  const { port } = server.address() as AddressInfo;
  kube.loadFromClusterAndUser(
    { name: 'fake', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
    { name: 'me' },
  );
  return new KubeApi(kube, pino({ enabled: false }));
}

it('requests leave nothing behind on a signal that outlives them, however they end', async () => {
  const api = await apiThat((request, response) => {
    const { pathname } = new URL(request.url ?? '', 'http://x');
    if (pathname === '/cut') response.destroy();
    else if (pathname === '/refused') response.writeHead(403).end('{}');
    else if (pathname === '/stream') response.end('{}\n{}\n');
    else response.end('{}');
  });
  const { signal } = new AbortController();
  const combined = vi.spyOn(AbortSignal, 'any');
  closing.push(() => combined.mockRestore());
  await api.request('/good', { signal });
  await expect(api.request('/cut', { signal })).rejects.toThrow();
  await expect(api.request('/refused', { signal })).rejects.toThrow('403');
  for await (const _ of await api.stream('/stream', { signal }));
  for await (const _ of await api.stream('/stream', { signal })) break;
  expect(getEventListeners(signal, 'abort')).toEqual([]);
  // what that makes is kept by the signal as well, where no one can count it
  expect(combined).not.toHaveBeenCalled();
});

it('a request is called off by its signal, before and while it is under way, for the reason given', async () => {
  const api = await apiThat((_, response) => response.writeHead(200).flushHeaders());
  await expect(api.request('/', { signal: AbortSignal.abort(new Error('too late')) })).rejects.toThrow(
    'too late',
  );
  const caller = new AbortController();
  const { signal } = caller;
  const values = await api.stream('/', { signal });
  const first = values[Symbol.asyncIterator]().next();
  caller.abort(new Error('no longer wanted'));
  await expect(first).rejects.toThrow('no longer wanted');
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});

it('an answer that stays away is given up', async () => {
  const api = await apiThat(() => {});
  await expect(api.request('/', { patience: 50 })).rejects.toThrow('nothing came for 0.05 s');
});
