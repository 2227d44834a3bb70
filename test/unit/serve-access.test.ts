import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { credentials, status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { EventLog } from '../../agent/event/log.js';
import { loadAddon } from '../../agent/kernel/addon.js';
import { everything } from '../../agent/serve/access.js';
import { authenticator, unsafe } from '../../agent/serve/authenticate.js';
import { Oidc } from '../../agent/serve/oidc.js';
import { type ServerOptions, type Serving, serve } from '../../agent/serve/server.js';
import { recordedLog } from '../api/harness.js';
import { Caller, NODE } from './serve-client.js';
import { alertRecord } from './serve-records.js';

let folder: string;
const at = (name: string) => join(folder, name);
const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe', cwd: folder });

/** A key and a certificate, signed by `ca`, or by itself. */
function certificate(name: string, subject: string, ca?: string, days = '1'): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];
  const signed = ca ? ['-CA', `${ca}.crt`, '-CAkey', `${ca}.key`] : [];
  const names = ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  openssl(
    'req',
    '-x509',
    ...key,
    ...signed,
    ...names,
    '-days',
    days,
    '-subj',
    subject,
    '-out',
    `${name}.crt`,
  );
}

/** An issuer of tokens, as OpenID Connect has it, on this machine. */
class Issuer {
  readonly #server: Server;
  readonly #keys = {
    good: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    bad: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  };
  url = '';

  constructor() {
    this.#server = createServer(({ url }, response) => {
      const jwk = {
        ...this.#keys.good.publicKey.export({ format: 'jwk' }),
        kid: 'one',
        alg: 'ES256',
        use: 'sig',
      };
      const answer = url === '/jwks' ? { keys: [jwk] } : { issuer: this.url, jwks_uri: `${this.url}/jwks` };
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(answer));
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  token(
    claims: object = {},
    { header = {}, key = this.#keys.good.privateKey }: { header?: object; key?: KeyObject } = {},
  ): string {
    const now = Math.floor(Date.now() / 1000);
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const head = { alg: 'ES256', kid: 'one', ...header };
    const usual = { iss: this.url, aud: 'belay', sub: 'ann', iat: now, exp: now + 300, namespaces: ['shop'] };
    const text = `${part(head)}.${part({ ...usual, ...claims })}`;
    const signature =
      head.alg === 'none'
        ? ''
        : sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');
    return `${text}.${signature}`;
  }

  forged(claims: object = {}): string {
    return this.token(claims, { key: this.#keys.bad.privateKey });
  }

  close(): void {
    this.#server.close();
  }
}

let issuer: Issuer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'belay-access-'));
  certificate('ca', '/CN=authority');
  certificate('other-ca', '/CN=another authority');
  certificate('server', '/CN=localhost');
  certificate('server-2', '/CN=localhost second');
  certificate('ann', '/O=auditors/CN=ann', 'ca');
  certificate('eve', '/CN=eve', 'other-ca');
  issuer = await new Issuer().start();
});
afterAll(() => {
  issuer.close();
  rmSync(folder, { recursive: true });
});

const closing: { close(): unknown }[] = [];
afterEach(async () => {
  vi.useRealTimers();
  for (const each of closing.splice(0).reverse()) await each.close();
});

const read = async (name: string) => (await import('node:fs')).readFileSync(at(name));

async function started(network: Partial<ServerOptions['network']> & object, events = new EventLog()) {
  const { log, lines } = recordedLog();
  const tls = { certificate: at('server.crt'), key: at('server.key') };
  const options = { node: NODE, events, log, network: { address: '127.0.0.1:0', tls, ...network } };
  const serving: Serving = await serve(options);
  closing.push(serving);
  return { events, lines, port: serving.port };
}

async function caller(
  port: number,
  options: { token?: string; as?: string; trusts?: string } = {},
): Promise<Caller> {
  const ca = await read(options.trusts ?? 'server.crt');
  const shown = options.as ? [await read(`${options.as}.key`), await read(`${options.as}.crt`)] : [];
  const made = new Caller(`127.0.0.1:${port}`, credentials.createSsl(ca, ...shown), options);
  closing.push(made);
  return made;
}

/** What a caller gets of three events: of namespaces shop and bank, and of the node. */
async function gets(
  port: number,
  events: EventLog,
  options: Parameters<typeof caller>[1],
  request: object = {},
) {
  if (events.read(() => true, 0n).next() === undefined) {
    events.append(alertRecord({ sequence: '1', namespace: 'shop' }));
    events.append(alertRecord({ sequence: '2', namespace: 'bank' }));
    events.append(alertRecord({ sequence: '3', namespace: '' }));
  }
  const client = await caller(port, options);
  const seen = await client.watch({ after: '0', untilNow: true, ...request });
  return (await seen.all()).map(({ namespace }) => namespace);
}

const oidc = () => ({
  oidc: { issuer: issuer.url, tokens: new Oidc({ issuer: issuer.url, audience: 'belay' }) },
});

describe('where it may be served', () => {
  const open = { tls: false, authenticated: false };
  it('is on loopback addresses, and elsewhere only with TLS and for known callers', () => {
    for (const address of ['127.0.0.1:1', '[::1]:1', 'localhost:1', '127.8.8.8:1'])
      expect(unsafe(address, open)).toBeUndefined();
    for (const address of [
      ':1',
      '0.0.0.0:1',
      '10.0.0.1:1',
      '[::]:1',
      'node-1:1',
      '127.0.0.1.example.com:1',
    ]) {
      expect(unsafe(address, open)).toMatch(/certificate and a key/);
      expect(unsafe(address, { tls: true, authenticated: false })).toMatch(/who may ask/);
      expect(unsafe(address, { tls: true, authenticated: true })).toBeUndefined();
    }
  });

  it('is not listened on otherwise', async () => {
    await expect(started({ address: ':0', tls: undefined })).rejects.toThrow(/certificate and a key/);
    await expect(started({ address: '0.0.0.0:0' })).rejects.toThrow(/who may ask/);
  });
});

describe('client certificates', () => {
  const mutual = () => ({ certificate: at('server.crt'), key: at('server.key'), clientCa: at('ca.crt') });

  it('let in who has one of the authority, and nobody else', async () => {
    const { events, port } = await started({ tls: mutual() });
    expect(await gets(port, events, { as: 'ann' })).toEqual(['shop', 'bank', '']);
    for (const as of [undefined, 'eve'])
      await expect(gets(port, events, { as })).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  it('are asked of HTTP as well', async () => {
    const { events, port } = await started({ tls: mutual() });
    events.append(alertRecord({ sequence: '1' }));
    const get = async (as?: string) => {
      const shown = as ? { key: await read(`${as}.key`), cert: await read(`${as}.crt`) } : {};
      const ca = await read('server.crt');
      return new Promise<number | string | undefined>((resolve) => {
        const options = { host: '127.0.0.1', port, path: '/v1/events?after=0&follow=false', ca, ...shown };
        const asked = request({ ...options, agent: false }, (response) => {
          response.resume();
          resolve(response.statusCode);
        });
        asked.on('error', () => resolve('nothing'));
        asked.end();
      });
    };
    expect(await get('ann')).toBe(200);
    expect(await get()).toBe('nothing');
    expect(await get('eve')).toBe('nothing');
  });

  it('may be left out where tokens are known, but a bad one is not made good by a token', async () => {
    const { events, port } = await started({ tls: mutual(), authorities: oidc() });
    expect(await gets(port, events, { as: 'ann' })).toEqual(['shop', 'bank', '']);
    expect(await gets(port, events, { token: issuer.token() })).toEqual(['shop']);
    await expect(gets(port, events, {})).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    await expect(gets(port, events, { as: 'eve', token: issuer.token() })).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
  });
});

describe('whom a certificate has let in', () => {
  const mutual = (clientCa: string) => ({ certificate: at('server.crt'), key: at('server.key'), clientCa });

  it('is nobody once it has expired, on a connection that was made before, too', async () => {
    const { port } = await started({ tls: mutual(at('ca.crt')) });
    const client = await caller(port, { as: 'ann' });
    expect(await client.ask('Health', {})).toEqual(NODE.health());
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * 86_400_000 });
    await expect(client.ask('Health', {})).rejects.toMatchObject({
      code: status.UNAUTHENTICATED,
      details: 'the certificate of ann has expired',
    });
  });

  it('does not stand when it expires, whoever says what its name may see', async () => {
    const until = Date.now() + 1000;
    const users = { ofUser: (name: string) => everything(name) };
    for (const authorities of [{}, { users }]) {
      const authenticate = authenticator({ certificates: true, ...authorities });
      const access = await authenticate({ certificate: { name: 'ann', groups: [], until } });
      expect(access.stands()).toBe(true);
      vi.useFakeTimers({ toFake: ['Date'], now: until });
      expect(access.stands()).toBe(false);
      vi.useRealTimers();
    }
  });

  it('has to show itself anew when the authorities change', async () => {
    copyFileSync(at('ca.crt'), at('clients.crt'));
    const { port } = await started({ tls: mutual(at('clients.crt')) });
    const client = await caller(port, { as: 'ann' });
    const seen = await client.watch({});
    const idle = connect({
      ...{ host: '127.0.0.1', port, rejectUnauthorized: false },
      ...{ key: await read('ann.key'), cert: await read('ann.crt') },
    });
    await new Promise((resolve) => idle.on('secureConnect', resolve));
    const ended = new Promise((resolve) => idle.on('close', resolve).on('error', () => {}));
    copyFileSync(at('other-ca.crt'), at('clients.crt'));
    await expect(seen.next()).rejects.toMatchObject({ code: status.UNAVAILABLE });
    await ended;
    await expect(client.ask('Health', {})).rejects.toMatchObject({ code: status.UNAVAILABLE });
  }, 20_000);
});

describe('those who watch', () => {
  it('are so many of each caller on the network, and keep nobody of the node from it', async () => {
    const socket = at('local.sock');
    const events = new EventLog();
    const serving = await serve({
      ...{ node: NODE, events, log: recordedLog().log, socket: { path: socket, peer: loadAddon().peer } },
      network: { address: '127.0.0.1:0', authorities: oidc() },
    });
    closing.push(serving);
    const insecure = credentials.createInsecure();
    const of = (sub: string) => {
      const token = issuer.token({ sub, namespaces: [] });
      const made = new Caller(`127.0.0.1:${serving.port}`, insecure, { token });
      closing.push(made);
      return made;
    };
    const full = { code: status.RESOURCE_EXHAUSTED };
    for (let n = 0; n < 8; n++) {
      const client = of(`someone ${n}`);
      for (let m = 0; m < 8; m++) await client.watch({});
      if (n === 0)
        await expect((await of('someone 0').watch({})).next()).rejects.toMatchObject({
          ...full,
          details: expect.stringContaining('someone 0'),
        });
    }
    expect(events.readers).toBe(64);
    await expect((await of('another').watch({})).next()).rejects.toMatchObject(full);
    const local = new Caller(`unix:${socket}`, insecure);
    closing.push(local);
    for (let n = 0; n < 9; n++) await local.watch({});
    expect(events.readers).toBe(73);
  });
});

describe('certificates of the server', () => {
  it('are taken anew while it runs; bad ones are not, and the log says so', async () => {
    copyFileSync(at('server.crt'), at('live.crt'));
    copyFileSync(at('server.key'), at('live.key'));
    const tls = { certificate: at('live.crt'), key: at('live.key') };
    const { lines, port } = await started({ tls });
    const shown = () =>
      new Promise<string>((resolve, reject) => {
        const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
          resolve(String(socket.getPeerCertificate().subject.CN));
          socket.destroy();
        });
        socket.on('error', reject);
      });
    expect(await shown()).toBe('localhost');
    writeFileSync(at('live.crt'), 'not a certificate');
    await expect
      .poll(() => lines.some(({ msg }) => msg.includes('cannot be used')), { timeout: 20_000 })
      .toBe(true);
    expect(await shown()).toBe('localhost');
    copyFileSync(at('server-2.key'), at('live.key'));
    copyFileSync(at('server-2.crt'), at('live.crt'));
    await expect.poll(shown, { timeout: 20_000 }).toBe('localhost second');
  });

  it('must belong to the key', async () => {
    const tls = { certificate: at('server.crt'), key: at('ca.key') };
    await expect(started({ tls })).rejects.toThrow(/server\.crt.*ca\.key/);
  });
});

describe('tokens of an OpenID Connect issuer', () => {
  it('show what their namespaces are, and nothing else', async () => {
    const { events, port } = await started({ authorities: oidc() });
    const of = (namespaces: unknown) => gets(port, events, { token: issuer.token({ namespaces }) });
    expect(await of(['shop'])).toEqual(['shop']);
    expect(await of(['shop', 'bank'])).toEqual(['shop', 'bank']);
    expect(await of(['*'])).toEqual(['shop', 'bank', '']);
    for (const none of [[], undefined, '*', [''], { '*': 1 }]) expect(await of(none)).toEqual([]);
  });

  it('do not show a namespace that is asked for by its name either', async () => {
    const { events, port } = await started({ authorities: oidc() });
    const token = issuer.token();
    expect(await gets(port, events, { token }, { namespaces: ['shop'] })).toEqual(['shop']);
    await expect(gets(port, events, { token }, { namespaces: ['bank'] })).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
    });
  });

  it('show policies and workloads of their namespaces, and not what belongs to the node', async () => {
    const { port } = await started({ authorities: oidc() });
    const client = await caller(port, { token: issuer.token({ namespaces: ['bank'] }) });
    expect(await client.ask('Policies', {})).toMatchObject({ policies: [{ name: 'vault' }] });
    expect(await client.ask('Workloads', {})).toEqual({ workloads: [] });
    const asked = { namespace: 'shop', pod: 'web-1' };
    await expect(client.ask('Processes', asked)).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await expect(client.ask('Costs', {})).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
  });

  it('are worth nothing when they are expired, for others, of others, unsigned or forged', async () => {
    const { events, port } = await started({ authorities: oidc() });
    const past = Math.floor(Date.now() / 1000) - 3600;
    const bad: Record<string, string> = {
      expired: issuer.token({ exp: past }),
      'not yet good': issuer.token({ nbf: Math.floor(Date.now() / 1000) + 3600 }),
      endless: issuer.token({ exp: undefined }),
      'for others': issuer.token({ aud: 'another' }),
      'for nobody': issuer.token({ aud: undefined }),
      'of others': issuer.token({ iss: 'https://another.example.com' }),
      unsigned: issuer.token({}, { header: { alg: 'none' } }),
      'of another algorithm': issuer.token({}, { header: { alg: 'HS256' } }),
      forged: issuer.forged({ namespaces: ['*'] }),
      'of an unknown key': issuer.token({}, { header: { kid: 'two' } }),
      nonsense: 'abc',
    };
    for (const [what, token] of Object.entries(bad))
      await expect(gets(port, events, { token }), what).rejects.toMatchObject({
        code: status.UNAUTHENTICATED,
      });
    await expect(gets(port, events, {}), 'no token').rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    for (const service of ['feeder.LogService', 'policy.ProbeService', 'belay.v1.Belay']) {
      const client = await caller(port, { token: bad.forged });
      const name =
        { 'feeder.LogService': 'HealthCheck', 'policy.ProbeService': 'getProbeData' }[service] ?? 'Health';
      await expect(client.ask(name, {}, service)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    }
  });

  it('are not waved through while the issuer cannot be asked', async () => {
    const gone = await new Issuer().start();
    const { events, port } = await started({
      authorities: { oidc: { issuer: gone.url, tokens: new Oidc({ issuer: gone.url, audience: 'belay' }) } },
    });
    gone.close();
    await expect(gets(port, events, { token: gone.token() })).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
  });
});
