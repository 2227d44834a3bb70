import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { Server as GrpcServer, ServerCredentials, status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { FORMATS } from '../../agent/sink/formats/format.js';
import { makeSink, transportOf } from '../../agent/sink/make.js';
import type { SinkSettings } from '../../agent/sink/settings.js';
import type { Sink } from '../../agent/sink/sink.js';
import { RotatingFile } from '../../agent/sink/transports/file.js';
import { KafkaBroker } from '../delivery/kafka-broker.js';
// @ts-expect-error plain JavaScript, which also runs by itself
import { certificate } from '../delivery/peers.mjs';
import { Rsyslog } from '../delivery/rsyslog.js';
import { parseCef } from '../schema/cef.js';
import { alertOf, execOf, gapOf, HOSTILE, hostileOf } from './records.js';

let directory: string;
const open: Sink[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-sinks-'));
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((sink) => sink.close(100)));
  rmSync(directory, { recursive: true, force: true });
});

async function sinkOf(settings: SinkSettings): Promise<Sink> {
  const sink = await makeSink(settings, {
    node: 'node-1',
    spool: join(directory, 'spool'),
    formats: FORMATS,
    onTrouble: () => {},
  });
  open.push(sink);
  return sink;
}

const write = (sink: Sink, from: number, to: number) => {
  for (let i = from; i < to; i++) sink.write(alertOf({ id: `e-${i}`, sequence: String(i) }));
  sink.flush();
};
const arrived = (sink: Sink) =>
  vi.waitFor(() => expect(sink.stats).toMatchObject({ waiting: 0, trouble: undefined }), {
    timeout: 60_000,
    interval: 50,
  });
const idsOf = (lines: readonly string[]) =>
  new Set(lines.flatMap((line) => /"id":"(e-\d+)"/.exec(line)?.[1] ?? []));

describe('a file', () => {
  const fileOf = (fields: object = {}) =>
    sinkOf({ name: 'files', type: 'file', path: join(directory, 'out/events.jsonl'), ...fields });

  test('has a line for each record that its filter lets pass', async () => {
    const sink = await fileOf({
      filter: { types: ['alert'], namespaces: ['sh*'], minSeverity: 5, verdicts: ['Denied'] },
    });
    sink.write(alertOf({ id: 'in' }));
    sink.write(alertOf({ id: 'mild', severity: 4 }));
    sink.write(alertOf({ id: 'elsewhere', namespace: 'kube-system' }));
    sink.write(alertOf({ id: 'passed', verdict: 'Passed' }));
    sink.write(execOf({ id: 'started' }));
    sink.flush();
    await arrived(sink);
    const lines = readFileSync(join(directory, 'out/events.jsonl'), 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).id)).toEqual(['in']);
  });

  test('goes on where the last agent was cut off, without its half line', async () => {
    const path = join(directory, 'events');
    writeFileSync(path, '{"id":"whole"}\n{"id":"ha');
    const sink = await sinkOf({ name: 'files', type: 'file', path });
    write(sink, 0, 1);
    await arrived(sink);
    expect(readFileSync(path, 'utf8')).toMatch(/^\{"id":"whole"\}\n\{"schema".*\n$/);
  });

  test('is rotated and compressed, and only so many are kept', async () => {
    const path = join(directory, 'events');
    const file = new RotatingFile({ path, format: ({ id }) => id, maxBytes: 1000, keep: 2 });
    for (let i = 0; i < 50; i++) {
      const payload = Buffer.from(`${String(i).padStart(99, '0')}\n`);
      await file.send([{ workload: '', id: String(i), count: 1, urgent: false, payload }]);
    }
    await file.close();
    const linesOf = (bytes: Buffer) => bytes.toString().trim().split('\n').map(Number);
    expect(linesOf(readFileSync(path))).toEqual([40, 41, 42, 43, 44, 45, 46, 47, 48, 49]);
    expect(linesOf(gunzipSync(readFileSync(`${path}.1.gz`)))).toEqual([
      30, 31, 32, 33, 34, 35, 36, 37, 38, 39,
    ]);
    expect(linesOf(gunzipSync(readFileSync(`${path}.2.gz`)))[0]).toBe(20);
    expect(existsSync(`${path}.3.gz`)).toBe(false);
  });

  describe('that was rotated but not compressed', () => {
    const entriesOf = (n: number) => {
      const payload = Buffer.from(`${String(n).padStart(99, '0')}\n`);
      return [{ workload: '', id: String(n), count: 1, urgent: false, payload }];
    };
    const rotating = () => {
      const path = join(directory, 'events');
      writeFileSync(`${path}.1`, 'delivered before\n');
      writeFileSync(`${path}.1.gz.part`, 'half');
      return { path, file: new RotatingFile({ path, format: ({ id }) => id, maxBytes: 150, keep: 5 }) };
    };

    test('when an agent was killed is compressed by the next', async () => {
      const { path, file } = rotating();
      for (let i = 0; i < 3; i++) await file.send(entriesOf(i));
      await file.close();
      const names = ['events', 'events.1.gz', 'events.2.gz', 'events.3.gz'];
      expect(readdirSync(directory).sort()).toEqual(names);
      expect(gunzipSync(readFileSync(`${path}.3.gz`)).toString()).toBe('delivered before\n');
    });

    test('since that failed is not written over', async () => {
      const { path, file } = rotating();
      rmSync(`${path}.1.gz.part`);
      mkdirSync(`${path}.1.gz.part`);
      await file.send(entriesOf(0));
      for (let i = 0; i < 2; i++) await expect(file.send(entriesOf(1))).rejects.toThrow('EISDIR');
      expect(readFileSync(`${path}.1`, 'utf8')).toBe('delivered before\n');
      rmdirSync(`${path}.1.gz.part`);
      await file.send(entriesOf(1));
      await file.close();
      expect(gunzipSync(readFileSync(`${path}.2.gz`)).toString()).toBe('delivered before\n');
    });
  });

  test('in CEF tells gaps apart by their ids, however long the sink’s name', async () => {
    const path = join(directory, 'events');
    const sink = await fileOf({ path, name: 'a'.repeat(32), format: 'cef' });
    for (const pod of ['one', 'other']) sink.withhold(alertOf({ pod }));
    open.splice(open.indexOf(sink), 1);
    await sink.close();
    const lines = readFileSync(path, 'utf8').trim().split('\n');
    expect(new Set(lines.map((line) => parseCef(line).extension.get('externalId'))).size).toBe(2);
  });
});

test('a standard output that nobody reads any more is told to who writes, and ends nobody', async () => {
  const script = `
    import { FORMATS } from './dist/sink/formats/format.js';
    import { StandardOutput } from './dist/sink/transports/standard-output.js';
    const out = new StandardOutput(FORMATS.belay);
    await new Promise((resolve) => process.stdin.once('data', resolve));
    const entry = { workload: '', id: '', count: 1, urgent: false, payload: Buffer.from('line\\n') };
    for (let i = 0; i < 2; i++)
      await out.send([entry]).catch(async ({ code }) => {
        // an event that nobody listens to would come now
        await new Promise((resolve) => setTimeout(resolve, 50));
        process.stderr.write(code + ' ');
      });
    process.exit(7);`;
  const cwd = new URL('../..', import.meta.url);
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd });
  let told = '';
  child.stderr.on('data', (text) => {
    told += text;
  });
  child.stdout.destroy();
  child.stdin.end('go');
  const [code] = await once(child, 'close');
  expect({ code, told }).toMatchObject({ code: 7, told: expect.stringMatching(/^EPIPE \S+ $/) });
});

describe('rsyslog', () => {
  let place: string;
  let tls: { key: string; cert: string };
  let rsyslog: Awaited<ReturnType<typeof Rsyslog.start>>;
  beforeAll(async () => {
    place = mkdtempSync(join(tmpdir(), 'belay-rsyslog-'));
    tls = certificate(place);
    rsyslog = await Rsyslog.start(place, tls);
  });
  afterAll(async () => {
    await rsyslog.down();
    rmSync(place, { recursive: true, force: true });
  });
  const syslogOf = (protocol: 'tls' | 'tcp' | 'udp', fields: object = {}) =>
    sinkOf({
      ...{ name: protocol, type: 'syslog', address: `${protocol}://127.0.0.1:${rsyslog.ports[protocol]}` },
      ...(protocol === 'tls' && { caFile: tls.cert, serverName: 'localhost' }),
      ...fields,
    } as SinkSettings);

  test('gets every message over TLS, though it is restarted meanwhile', async () => {
    const sink = await syslogOf('tls');
    for (let i = 0; i < 6; i++) {
      write(sink, i * 300, (i + 1) * 300);
      if (i === 2) {
        await rsyslog.down('SIGKILL');
        await rsyslog.up();
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await arrived(sink);
    expect(idsOf(rsyslog.lines).size).toBe(1800);
    const [line] = rsyslog.lines;
    expect(line).toMatch(
      /^83 2023-11-14T22:13:20\.123456Z node-1 belay alert \[meta sequenceId="\d+"\] \{"schema":"belay\.v1"/,
    );
  });

  test('is not spoken to when its certificate is another’s', async () => {
    const sink = await syslogOf('tls', { name: 'wrong', serverName: 'elsewhere' });
    write(sink, 0, 1);
    await vi.waitFor(() => expect(sink.stats.trouble).toMatch(/altnames|Hostname/), { timeout: 20_000 });
    expect(sink.stats).toMatchObject({ waiting: 1, delivered: 0 });
  });

  test.each(['tcp', 'udp'] as const)(
    'takes what attackers write over %s for one message each',
    async (protocol) => {
      const before = rsyslog.lines.length;
      const sink = await syslogOf(protocol, { format: 'cef' });
      HOSTILE.forEach((text, i) => {
        sink.write({ ...hostileOf(text), id: `${protocol}-${i}` });
      });
      sink.flush();
      await arrived(sink);
      const lines = await vi.waitFor(
        () => {
          const all = rsyslog.lines.slice(before);
          expect(all).toHaveLength(HOSTILE.length);
          return all;
        },
        { timeout: 20_000 },
      );
      const parsed = lines.map((line) => parseCef(line.slice(line.indexOf('CEF:'))));
      expect(parsed.map(({ extension }) => extension.get('externalId'))).toEqual(
        HOSTILE.map((_, i) => `${protocol}-${i}`),
      );
    },
  );
});

/** An HTTP server that hands each request's body to `answer`. */
async function httpServer(
  answer: (body: string, request: IncomingMessage, response: ServerResponse) => void,
): Promise<Server & { readonly url: string }> {
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    answer(Buffer.concat(parts).toString(), request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(server, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

describe('over HTTP', () => {
  let server: (Server & { readonly url: string }) | undefined;
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });

  test('a webhook gets everything, though it fails first, with its token', async () => {
    const lines: string[] = [];
    let requests = 0;
    server = await httpServer((body, { headers }, response) => {
      expect(headers.authorization).toBe('Bearer t0ken');
      if (++requests <= 2) response.writeHead(requests === 1 ? 503 : 429, { 'retry-after': '0' });
      else lines.push(...body.trim().split('\n'));
      response.end();
    });
    writeFileSync(join(directory, 'token'), 't0ken\n');
    const sink = await sinkOf({
      ...{ name: 'hook', type: 'webhook', url: server.url },
      token: { file: join(directory, 'token') },
    });
    write(sink, 0, 500);
    await arrived(sink);
    expect(idsOf(lines).size).toBe(500);
    expect(sink.stats).toMatchObject({ delivered: 500, dropped: 0, failures: 2 });
  });

  test('what is refused for good is found among the others, counted and told of', async () => {
    const lines: string[] = [];
    server = await httpServer((body, _, response) => {
      const bad = body.includes('"e-13"') || body.includes('"e-77"');
      if (!bad) lines.push(...body.trim().split('\n'));
      response.writeHead(bad ? 400 : 200).end();
    });
    const sink = await sinkOf({ name: 'hook', type: 'webhook', url: server.url });
    write(sink, 0, 100);
    await arrived(sink);
    expect(idsOf(lines).size).toBe(98);
    expect(sink.stats).toMatchObject({ delivered: 98, dropped: 2, untold: 2 });
    sink.tick();
    await vi.waitFor(() =>
      expect(lines.map((line) => JSON.parse(line)).find(({ type }) => type === 'gap')).toMatchObject({
        ...{ ring: 'refused', lost: '2', namespace: 'shop', pod: 'web-1', container: 'nginx' },
      }),
    );
  });

  test('what is refused as everything is, is kept, and sent over a new connection', async () => {
    const lines: string[] = [];
    const refused = new Set<object>();
    let expired = true;
    server = await httpServer((body, { socket }, response) => {
      if (expired) refused.add(socket);
      else {
        expect(refused).not.toContain(socket);
        lines.push(...body.trim().split('\n'));
      }
      response.writeHead(expired ? 400 : 200).end(expired ? 'The SSL certificate error' : '');
    });
    const sink = await sinkOf({ name: 'hook', type: 'webhook', url: server.url });
    write(sink, 0, 100);
    await vi.waitFor(() => expect(sink.stats.failures).toBeGreaterThan(1));
    expect(sink.stats).toMatchObject({ waiting: 100, dropped: 0, trouble: expect.stringContaining('SSL') });
    expired = false;
    await arrived(sink);
    expect(idsOf(lines).size).toBe(100);
  });

  test('alerts that are only counted are told of by their number when there are no more, those that it filters out apart', async () => {
    const lines: string[] = [];
    server = await httpServer((body, _, response) => {
      lines.push(...body.trim().split('\n'));
      response.end();
    });
    const gaps = () => lines.map((line) => JSON.parse(line)).filter(({ type }) => type === 'gap');
    const settings: SinkSettings = {
      ...{ name: 'hook', type: 'webhook', url: server.url, filter: { minSeverity: 5 } },
    };
    const sink = await sinkOf(settings);
    const withhold = (of: Sink, severity: number) => of.withhold(alertOf({ severity, count: '3' }));
    for (const severity of [4, 5, 6]) withhold(sink, severity);
    sink.flush();
    sink.tick();
    write(sink, 0, 1);
    await arrived(sink);
    expect(gaps()).toEqual([]);
    expect(sink.stats).toMatchObject({ dropped: 0, untold: 6 });
    sink.write(gapOf({ ring: 'throttled', lost: '9' }));
    sink.tick();
    const told = { ring: 'throttled', namespace: 'shop', pod: 'web-1', container: 'nginx' };
    await vi.waitFor(() => expect(gaps()).toMatchObject([{ ...told, lost: '6' }]), 10_000);
    // and if there is no time for that, by the next agent
    withhold(sink, 7);
    sink.flush();
    const spool = join(directory, 'spool');
    cpSync(spool, `${spool}-killed`, { recursive: true });
    const next = await makeSink(settings, {
      ...{ node: 'node-1', spool: `${spool}-killed`, formats: FORMATS, onTrouble: () => {} },
    });
    open.push(next);
    next.tick();
    await vi.waitFor(() => expect(gaps()).toMatchObject([{ lost: '6' }, { ...told, lost: '3' }]), 10_000);
  });

  test('Splunk’s collector gets an object for each event', async () => {
    let body = '';
    server = await httpServer((got, { headers, url }, response) => {
      expect([headers.authorization, url]).toEqual(['Splunk hec', '/services/collector/event']);
      body += got;
      response.end('{"text":"Success","code":0}');
    });
    vi.stubEnv('HEC_TOKEN', 'hec');
    const url = `${server.url}/services/collector/event`;
    const sink = await sinkOf({
      name: 'hec',
      type: 'splunk',
      url,
      token: { env: 'HEC_TOKEN' },
      index: 'security',
    });
    write(sink, 0, 3);
    await arrived(sink);
    vi.unstubAllEnvs();
    const events = body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events).toHaveLength(3);
    expect(events[0]).toMatchObject({
      ...{
        time: '1700000000.123',
        host: 'node-1',
        source: 'belay',
        sourcetype: 'belay:belay',
        index: 'security',
      },
      ...{ fields: { event_id: 'e-0' }, event: { type: 'alert', id: 'e-0' } },
    });
  });

  test('Elasticsearch has each document once, though a part was not taken at first', async () => {
    const documents = new Map<string, Record<string, unknown>>();
    let busy = true;
    server = await httpServer((body, { url }, response) => {
      expect(url).toBe('/_bulk');
      const lines = body
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      const items = [];
      for (let i = 0; i < lines.length; i += 2) {
        const { _index, _id } = lines[i].create;
        expect(_index).toBe('logs-belay');
        if (_id.endsWith('e-5')) items.push({ create: { status: 400 } });
        else if (busy && i > 10) items.push({ create: { status: 429 } });
        else if (documents.has(_id)) items.push({ create: { status: 409 } });
        else {
          documents.set(_id, lines[i + 1]);
          items.push({ create: { status: 201 } });
        }
      }
      busy = false;
      response.end(JSON.stringify({ errors: true, items }));
    });
    const sink = await sinkOf({
      name: 'es',
      type: 'elasticsearch',
      url: server.url,
      index: 'logs-belay',
      format: 'ecs',
    });
    write(sink, 0, 20);
    await arrived(sink);
    expect(documents.size).toBe(19);
    expect(documents.get('node-1-e-0')).toMatchObject({
      event: { kind: 'alert' },
      '@timestamp': expect.any(String),
    });
    expect(sink.stats).toMatchObject({ delivered: 19, dropped: 1 });
  });

  test.each([
    [403, 'security_exception', 'action is unauthorized for API key'],
    [404, 'index_not_found_exception', 'no such index [logs-belay]'],
    [400, 'illegal_argument_exception', 'pipeline with id [x] does not exist'],
  ])(
    'Elasticsearch that answers every document %i gets them once that is mended',
    async (status, type, reason) => {
      let wrong = true;
      const ids = new Set<string>();
      server = await httpServer((body, _, response) => {
        const all = body
          .trim()
          .split('\n')
          .flatMap((line) => JSON.parse(line).create?._id ?? []);
        if (!wrong) for (const id of all) ids.add(id);
        const create = wrong ? { status, error: { type, reason } } : { status: 201 };
        response.end(JSON.stringify({ errors: wrong, items: all.map(() => ({ create })) }));
      });
      const sink = await sinkOf({ name: 'es', type: 'elasticsearch', url: server.url, index: 'logs-belay' });
      write(sink, 0, 20);
      await vi.waitFor(() => expect(sink.stats.failures).toBeGreaterThan(1));
      expect(sink.stats).toMatchObject({ waiting: 20, dropped: 0, trouble: expect.stringContaining(reason) });
      wrong = false;
      await arrived(sink);
      expect(ids.size).toBe(20);
    },
  );

  test('Elasticsearch gets documents whose labels do not conflict in a mapping, if no format is named', async () => {
    const transport = await transportOf(
      { name: 'es', type: 'elasticsearch', url: 'http://es:9200', index: 'logs-belay' },
      FORMATS,
    );
    const labels = { app: 'web', 'app.kubernetes.io/name': 'web' };
    const [, document = ''] = String(transport.encode(alertOf({ labels }))).split('\n');
    expect(Object.keys(JSON.parse(document).labels)).toEqual(['app', 'app_kubernetes_io/name']);
  });
});

/** The receiver's side of OTLP, from the published layout and not from the sink's own. */
const OTLP = protobuf.parse(`
  syntax = "proto3";
  message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message LogRecord {
    fixed64 time_unix_nano = 1; fixed64 observed_time_unix_nano = 11; int32 severity_number = 2; string severity_text = 3;
    AnyValue body = 5; repeated KeyValue attributes = 6; uint32 dropped_attributes_count = 7; fixed32 flags = 8;
    bytes trace_id = 9; bytes span_id = 10; string event_name = 12;
  }
  message Scope { string name = 1; string version = 2; }
  message ScopeLogs { Scope scope = 1; repeated LogRecord log_records = 2; string schema_url = 3; }
  message Resource { repeated KeyValue attributes = 1; }
  message ResourceLogs { Resource resource = 1; repeated ScopeLogs scope_logs = 2; string schema_url = 3; }
  message ExportLogsServiceRequest { repeated ResourceLogs resource_logs = 1; }
  message ExportLogsPartialSuccess { int64 rejected_log_records = 1; string error_message = 2; }
  message ExportLogsServiceResponse { ExportLogsPartialSuccess partial_success = 1; }
`).root;

interface Received {
  readonly body: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly severityNumber: number;
  readonly timeUnixNano: string;
}
function received(bytes: Uint8Array): Received[] {
  const type = OTLP.lookupType('ExportLogsServiceRequest');
  // biome-ignore lint/suspicious/noExplicitAny: what protobufjs makes of it
  const { resourceLogs } = type.toObject(type.decode(bytes), { longs: String }) as any;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const textsOf = (all: any[]) =>
    Object.fromEntries(all.map(({ key, value }) => [key, Object.values(value)[0]]));
  expect(textsOf(resourceLogs[0].resource.attributes)).toMatchObject({ 'service.name': 'belay' });
  // biome-ignore lint/suspicious/noExplicitAny: as above
  return resourceLogs[0].scopeLogs[0].logRecords.map((record: any) => ({
    ...record,
    body: record.body.stringValue,
    attributes: textsOf(record.attributes),
  }));
}
const responseOf = (rejected: number) => {
  const type = OTLP.lookupType('ExportLogsServiceResponse');
  const partialSuccess = rejected > 0 ? { rejectedLogRecords: rejected, errorMessage: 'no' } : undefined;
  return Buffer.from(type.encode(type.fromObject({ partialSuccess })).finish());
};

const same = (bytes: Buffer) => bytes;
const EXPORT = {
  path: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
  ...{ requestStream: false, responseStream: false },
  ...{ requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same },
};

describe('OTLP', () => {
  test('by gRPC brings records with what collectors route by, again after the collector was not there', async () => {
    const records: Received[] = [];
    let calls = 0;
    const grpc = new GrpcServer();
    grpc.addService(
      { export: EXPORT },
      {
        export: (call: { request: Buffer }, done: (error: object | null, answer?: Buffer) => void) => {
          if (++calls === 1) return done({ code: status.UNAVAILABLE, details: 'not yet' });
          records.push(...received(call.request));
          done(null, responseOf(calls === 3 ? 2 : 0));
        },
      },
    );
    const port = await new Promise<number>((resolve, reject) =>
      grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    const sink = await sinkOf({ name: 'otlp', type: 'otlp', url: `grpc://127.0.0.1:${port}` });
    write(sink, 0, 50);
    await arrived(sink);
    expect(records).toHaveLength(50);
    expect(records[7]).toMatchObject({
      ...{ timeUnixNano: '1700000000123456789', severityNumber: 17, eventName: 'belay.alert' },
      attributes: {
        'event.id': 'e-7',
        'k8s.namespace.name': 'shop',
        'belay.verdict': 'Denied',
        'host.name': 'node-1',
      },
    });
    expect(JSON.parse(records[7]?.body ?? '')).toMatchObject({ id: 'e-7' });
    write(sink, 50, 60);
    await arrived(sink);
    expect(sink.stats).toMatchObject({ delivered: 58, dropped: 2, untold: 2 });
    grpc.forceShutdown();
  });

  test('by gRPC reads its authorities anew after the collector’s certificate was replaced', async () => {
    const place = join(directory, 'pki');
    mkdirSync(place);
    const caFile = join(directory, 'ca.pem');
    const collector = async (port: number) => {
      const { key, cert } = certificate(place);
      const grpc = new GrpcServer();
      const pair = { private_key: readFileSync(key), cert_chain: readFileSync(cert) };
      const done = (_: object, answer: (error: null, bytes: Buffer) => void) => answer(null, responseOf(0));
      grpc.addService({ export: EXPORT }, { export: done });
      const bound = await new Promise<number>((resolve, reject) =>
        grpc.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createSsl(null, [pair]), (error, at) =>
          error ? reject(error) : resolve(at),
        ),
      );
      return { grpc, port: bound, cert };
    };
    const first = await collector(0);
    cpSync(first.cert, caFile);
    const sink = await sinkOf({
      ...{ name: 'otlp', type: 'otlp', url: `grpcs://localhost:${first.port}`, caFile },
    });
    write(sink, 0, 1);
    await arrived(sink);
    first.grpc.forceShutdown();
    const second = await collector(first.port);
    write(sink, 1, 2);
    await vi.waitFor(() => expect(sink.stats.trouble).toContain('UNAVAILABLE'), { timeout: 20_000 });
    cpSync(second.cert, caFile);
    await arrived(sink);
    expect(sink.stats).toMatchObject({ delivered: 2, dropped: 0 });
    second.grpc.forceShutdown();
  });

  test('by HTTP brings the same', async () => {
    const records: Received[] = [];
    const server = createServer(async (request, response) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      expect(request.headers['content-type']).toBe('application/x-protobuf');
      records.push(...received(Buffer.concat(parts)));
      response.end(responseOf(0));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/logs`;
    const sink = await sinkOf({ name: 'otlp', type: 'otlp', url, format: 'ecs' });
    write(sink, 0, 50);
    await arrived(sink);
    expect(records).toHaveLength(50);
    expect(JSON.parse(records[0]?.body ?? '')).toMatchObject({ ecs: {} });
    server.closeAllConnections();
    server.close();
  });
});

describe('Kafka', () => {
  let broker: KafkaBroker;
  beforeEach(async () => {
    broker = new KafkaBroker('belay.events');
    await broker.start();
  });
  afterEach(() => broker.stop());
  const kafkaOf = () =>
    sinkOf({ name: 'bus', type: 'kafka', brokers: [`127.0.0.1:${broker.port}`], topic: 'belay.events' });

  test('has each event by its workload’s key, after failures too', async () => {
    let requests = 0;
    // NOT_ENOUGH_REPLICAS at first
    broker.fail = () => (++requests === 1 ? 19 : 0);
    const sink = await kafkaOf();
    write(sink, 0, 300);
    await arrived(sink);
    expect(new Set(broker.messages.map(({ headers }) => headers.id)).size).toBe(300);
    expect(broker.messages[0]).toMatchObject({ key: 'shop/web-1/nginx', headers: { id: 'e-0' } });
    expect(JSON.parse(broker.messages[0]?.value ?? '')).toMatchObject({ schema: 'belay.v1', id: 'e-0' });
  });

  test('has them by TLS, each broker by its own name', async () => {
    const { key, cert } = certificate(directory);
    const secure = new KafkaBroker('belay.events', { key: readFileSync(key), cert: readFileSync(cert) });
    await secure.start();
    // it says of itself that it is at 127.0.0.1
    const brokers = [`localhost:${secure.port}`];
    const sink = await sinkOf({
      ...{ name: 'bus', type: 'kafka', brokers, topic: 'belay.events' },
      ...{ tls: true, caFile: cert },
    });
    write(sink, 0, 3);
    await arrived(sink);
    expect(secure.messages.map(({ headers }) => headers.id)).toEqual(['e-0', 'e-1', 'e-2']);
    expect(secure.servernames).toEqual(['localhost', false]);
    await secure.stop();
  });
});

test('a sink that hangs holds up neither the others nor who writes', async () => {
  const hanging = createServer(() => {}).listen(0, '127.0.0.1');
  await once(hanging, 'listening');
  const url = `http://127.0.0.1:${(hanging.address() as AddressInfo).port}`;
  const slow = await sinkOf({ name: 'slow', type: 'webhook', url, spoolMiB: 1 });
  const file = await sinkOf({ name: 'file', type: 'file', path: join(directory, 'events') });
  for (let i = 0; i < 5; i++) {
    for (const sink of [slow, file]) write(sink, i * 1000, (i + 1) * 1000);
  }
  await arrived(file);
  expect(file.stats).toMatchObject({ delivered: 5000, dropped: 0 });
  expect(slow.stats.delivered).toBe(0);
  expect(slow.stats.waiting + slow.stats.dropped).toBe(5000);
  expect(slow.stats.spoolBytes).toBeLessThanOrEqual(1 << 20);
  hanging.closeAllConnections();
  hanging.close();
});
