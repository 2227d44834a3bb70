import { execFileSync } from 'node:child_process';
import { Ajv } from 'ajv';
import { describe, expect, test } from 'vitest';
import { readConfig } from '../../agent/cli/config.js';
import { FORMATS } from '../../agent/sink/formats/format.js';
import { transportOf } from '../../agent/sink/make.js';
import { sinksSchema } from '../../agent/sink/settings.js';

const FULL = `
sinks:
- {name: console, type: stdout}
- {name: files, type: file, path: /var/log/belay/events.jsonl, maxMiB: 10, keep: 3, spoolMiB: 8}
- name: siem
  type: syslog
  address: tls://siem.example:6514
  format: cef
  caFile: /etc/belay/ca.pem
  filter: {types: [alert, gap], namespaces: ["shop-*"], minSeverity: 5, verdicts: [Denied, Killed]}
- {name: collector, type: otlp, url: "grpc://127.0.0.1:4317", token: {file: /etc/belay/token}}
- name: bus
  type: kafka
  brokers: ["kafka-0:9093", "kafka-1:9093"]
  topic: belay.events
  tls: true
  sasl: scram-sha-256
  username: belay
  password: {env: KAFKA_PASSWORD}
- {name: hook, type: webhook, url: "https://alerts.example/belay", format: ocsf}
- {name: hec, type: splunk, url: "https://splunk:8088/services/collector/event", token: {env: HEC_TOKEN}}
- {name: elastic, type: elasticsearch, url: "https://es:9200", index: logs-belay, format: ecs, apiKey: {file: /k}}
`;

test('every kind of sink can be configured, and the schema agrees', async () => {
  const { values, diagnostics } = readConfig(FULL, 'c.yaml');
  expect(diagnostics).toEqual([]);
  expect(values.sinks).toHaveLength(8);
  expect(values.sinks?.[2]).toEqual({
    name: 'siem',
    type: 'syslog',
    address: 'tls://siem.example:6514',
    format: 'cef',
    caFile: '/etc/belay/ca.pem',
    filter: {
      types: ['alert', 'gap'],
      namespaces: ['shop-*'],
      minSeverity: 5,
      verdicts: ['Denied', 'Killed'],
    },
  });
  const valid = new Ajv({ allErrors: true, strict: false }).compile(sinksSchema());
  expect(valid(values.sinks), JSON.stringify(valid.errors)).toBe(true);
  for (const sink of values.sinks ?? [])
    expect((await transportOf(sink, FORMATS)).maxEntries).toBeGreaterThan(0);
});

describe('a fault', () => {
  /** `@@` stands before the place that must be reported, and is taken out. */
  test.each([
    ['no name', 'sinks:\n- @@{type: stdout}\n', 'no name'],
    ['a name with a slash', 'sinks:\n- {type: stdout, name: @@../x}\n', 'lower-case'],
    [
      'the same name twice',
      'sinks:\n- {name: x, type: stdout}\n- @@{name: x, type: stdout}\n',
      'another name',
    ],
    ['a field of another kind', 'sinks:\n- {name: x, type: stdout, @@path: /x}\n', 'unknown field "path"'],
    ['no path', 'sinks:\n- @@{name: x, type: file}\n', 'no path'],
    ['a relative path', 'sinks:\n- {name: x, type: file, path: @@events}\n', 'absolute path'],
    [
      'an address without a port',
      'sinks:\n- {name: x, type: syslog, address: @@"tcp://siem"}\n',
      'host:port',
    ],
    [
      'a URL of another scheme, with a password',
      'sinks:\n- {name: x, type: webhook, url: @@"ftp://ann:hunter2@a/"}\n',
      'url cannot be this; write a URL like https://alerts.example/belay',
    ],
    [
      'an address with a password and without a scheme',
      'sinks:\n- {name: x, type: syslog, address: @@"ann:hunter2@siem:6514"}\n',
      'address cannot be this; write udp://, tcp:// or tls:// with host:port',
    ],
    [
      'one broker that is no list, with a password',
      'sinks:\n- {name: x, type: kafka, topic: t, brokers: @@"kafka://ann:hunter2@k:9092"}\n',
      'must be a list, not the text "kafka://...@k:9092"',
    ],
    [
      'a secret in the open',
      'sinks:\n- {name: x, type: splunk, url: "http://s/", token: @@hunter2}\n',
      'must say where the secret is; write token: {file: /etc/belay/token} or token: {env: NAME}',
    ],
    [
      'a secret that is nowhere',
      'sinks:\n- {name: x, type: splunk, url: "http://s/", token: @@{}}\n',
      'file or env',
    ],
    [
      'a certificate without its key',
      'sinks:\n- @@{name: x, type: webhook, url: "https://s/", certFile: /c}\n',
      'keyFile',
    ],
    ['a size that is none', 'sinks:\n- {name: x, type: stdout, spoolMiB: @@0}\n', 'from 1'],
    [
      'a filter for nothing',
      'sinks:\n- {name: x, type: stdout, filter: {@@type: [alert]}}\n',
      'did you mean "types"',
    ],
    [
      'CEF for Elasticsearch',
      'sinks:\n- @@{name: x, type: elasticsearch, url: "http://e", index: i, format: cef}\n',
      'JSON only',
    ],
    ['no list', 'sinks: @@{name: x}\n', 'must be a list'],
  ])('is told at its place: %s', (_, marked, message) => {
    const before = marked.slice(0, marked.indexOf('@@'));
    const line = before.split('\n').length;
    const column = before.length - before.lastIndexOf('\n');
    const { diagnostics } = readConfig(marked.replace('@@', ''), 'c.yaml');
    expect(diagnostics).toHaveLength(1);
    expect(diagnostics[0]).toMatchObject({ at: { line, column }, severity: 'error' });
    expect(diagnostics[0]?.message).toContain(message);
    expect(diagnostics[0]?.message).not.toContain('hunter2');
  });
});

test('what is built can make every kind of sink: Node takes packages apart differently from the test runner', () => {
  const script = `
    import { readConfig } from './dist/cli/config.js';
    import { FORMATS } from './dist/sink/formats/format.js';
    import { transportOf } from './dist/sink/make.js';
    const { values } = readConfig(${JSON.stringify(FULL)}, 'c.yaml');
    const transports = await Promise.all(values.sinks.map((each) => transportOf(each, FORMATS)));
    process.stdout.write(String(transports.length));`;
  const cwd = new URL('../..', import.meta.url);
  const options = { cwd, encoding: 'utf8' } as const;
  expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], options)).toBe('8');
});
