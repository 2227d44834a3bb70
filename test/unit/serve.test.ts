import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { BelayRecord } from '../../agent/event/record.js';
import { Health, type HealthOptions } from '../../agent/serve/health.js';
import { serveHttp } from '../../agent/serve/http.js';
import { Metrics } from '../../agent/serve/metrics.js';

const closing: { close(): Promise<void> }[] = [];
afterEach(async () => {
  vi.useRealTimers();
  for (const each of closing.splice(0)) await each.close();
});

function metricsOf(): Metrics {
  const present = () => ({
    policies: { in_force: 3, rejected: 1 },
    ...{ workloads: 7, policySets: 2, tableBytes: 4096, watchers: 3, missed: 4 },
    maps: [{ map: 'cgroups', used: 5, capacity: 8192 }],
    programs: [{ program: 'file_open', runs: 10, nanoseconds: 2_000_000 }],
  });
  return new Metrics({ version: '1.2.3', kernel: '6.12.0', present });
}

/** As the kernel answers when all is well. */
const WELL: HealthOptions = { detached: () => [], rings: () => [[0, 0]], astray: () => [] };

async function served(metrics = metricsOf(), kernel = WELL, address = '127.0.0.1:0') {
  const health = new Health(kernel);
  const server = await serveHttp({ address, metrics, health });
  closing.push(server);
  const get = (path: string, method = 'GET', host = '127.0.0.1') =>
    new Promise<{ status?: number; text: string; type?: string }>((resolve, reject) => {
      const asked = request({ host, port: server.port, path, method, agent: false }, async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve({ status: response.statusCode, text, type: response.headers['content-type'] });
      });
      asked.on('error', reject);
      asked.end();
    });
  return { health, get };
}

const record = (fields: object) => fields as BelayRecord;

describe('what Prometheus is told', () => {
  it('counts events with their repeats, denials, losses and failures', async () => {
    const metrics = metricsOf();
    metrics.record(record({ type: 'alert', verdict: 'Denied', count: '5' }));
    metrics.record(record({ type: 'alert', verdict: 'Killed', count: '1' }));
    metrics.record(record({ type: 'alert', verdict: 'Passed', count: '2' }));
    metrics.record(record({ type: 'exec', count: '1' }));
    metrics.record(record({ type: 'gap', ring: 'denials', lost: '9' }));
    metrics.record(record({ type: 'gap', ring: 'throttled', lost: '8' }));
    metrics.record(record({ type: 'failure', failure: 'FAILURE_NAME', count: '4' }));
    metrics.applied(0.02);
    const { get } = await served(metrics);
    const { status, text, type } = await get('/metrics');
    expect(status).toBe(200);
    expect(type).toMatch(/^text\/plain/);
    for (const line of [
      'belay_policies{state="in_force"} 3',
      'belay_policies{state="rejected"} 1',
      'belay_workloads 7',
      'belay_policy_sets 2',
      'belay_table_bytes 4096',
      'belay_events_total{type="alert",verdict="Denied"} 5',
      'belay_events_total{type="alert",verdict="Passed"} 2',
      'belay_events_total{type="exec",verdict="Passed"} 1',
      'belay_denied_total 6',
      'belay_events_lost_total{ring="denials",reason="ring_full"} 9',
      'belay_alerts_throttled_total 8',
      'belay_watchers 3',
      'belay_watch_missed_total 4',
      'belay_map_used{map="cgroups"} 5',
      'belay_map_capacity{map="cgroups"} 8192',
      'belay_hook_runs_total{program="file_open"} 10',
      'belay_hook_seconds_total{program="file_open"} 0.002',
      'belay_kernel_failures_total{failure="FAILURE_NAME"} 4',
      'belay_apply_seconds_bucket{le="0.03"} 1',
      'belay_build_info{version="1.2.3",kernel="6.12.0"} 1',
    ])
      expect(text.split('\n')).toContain(line);
  });

  it('has every name that the alerting rules ask for', async () => {
    const rules = readFileSync(
      join(import.meta.dirname, '../../deploy/chart/templates/prometheusrule.yaml'),
      'utf8',
    );
    const asked = new Set(rules.match(/\bbelay_[a-z_]+/g));
    expect(asked.size).toBeGreaterThan(4);
    const text = await metricsOf().text();
    for (const name of asked) expect(text).toContain(`# TYPE ${name} `);
  });
});

describe('whether the agent is well', () => {
  it('is not ready before everything enforces, and well all the same', async () => {
    const { health, get } = await served();
    expect((await get('/readyz')).status).toBe(503);
    expect(await get('/healthz')).toMatchObject({ status: 200, text: 'ok\n' });
    health.enforces();
    expect((await get('/readyz')).status).toBe(200);
  });

  it('is not well when the kernel knows of a program that is not attached', async () => {
    const { get } = await served(metricsOf(), { ...WELL, detached: () => ['file_open'] });
    expect(await get('/healthz')).toMatchObject({
      status: 503,
      text: 'programs are not attached: file_open\n',
    });
  });

  it('is not well when other tables are in force than were put there, and does not say whose', async () => {
    const astray = ['shop/web-1/nginx'];
    const { health, get } = await served(metricsOf(), { ...WELL, astray: () => astray });
    health.enforces();
    for (const workloads of ['1 workload', '2 workloads']) {
      const text = `the kernel does not use the policies that were put in force for ${workloads}\n`;
      for (const path of ['/healthz', '/readyz'])
        expect(await get(path)).toMatchObject({ status: 503, text });
      astray.push('bank/vault-1/vault');
    }
  });

  it('is not well when records wait in a ring that nobody reads', () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    let rings: [number, number][] = [
      [0, 0],
      [64, 128],
    ];
    const health = new Health({ ...WELL, rings: () => rings });
    const pass = () => {
      for (let i = 0; i < 12; i++) {
        health.looked();
        vi.advanceTimersByTime(1000);
      }
    };
    pass();
    expect(health.trouble()).toContain('12 s without being read');
    // one that is read all the time, and never empty
    for (let read = 128; read < 1000; read += 64) {
      rings = [
        [0, 0],
        [read, read + 64],
      ];
      health.looked();
      vi.advanceTimersByTime(1000);
      expect(health.trouble()).toBeUndefined();
    }
    rings = [
      [0, 0],
      [1024, 1024],
    ];
    pass();
    expect(health.trouble()).toBeUndefined();
    health.enforces();
    rings = [];
    expect(health.trouble()).toBe('events are not read');
  });

  it('is not well when nothing has been looked after for long', () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const health = new Health(WELL);
    vi.advanceTimersByTime(29_000);
    expect(health.trouble()).toBeUndefined();
    vi.advanceTimersByTime(2000);
    expect(health.trouble()).toContain('31 s');
    health.looked();
    expect(health.trouble()).toBeUndefined();
  });
});

describe('the server', () => {
  it('knows three paths, and only gives', async () => {
    const { get } = await served();
    expect((await get('/')).status).toBe(404);
    expect((await get('/metrics', 'POST')).status).toBe(405);
    expect(await get('/healthz?verbose', 'HEAD')).toMatchObject({ status: 200, text: '' });
  });

  it('listens where it is told, also on every address', async () => {
    const { get } = await served(metricsOf(), WELL, ':0');
    expect((await get('/healthz')).status).toBe(200);
    await expect(served(metricsOf(), WELL, '192.0.2.1:0')).rejects.toThrow();
  });
});
