// Events through a slow, failing and restarting syslog/TLS peer and an HTTP peer of the same kind, with the agent killed
// several times: what arrived and what gaps tell of must be what was produced, for every workload.
// Usage: run.mjs [EVENTS [KILLS [EVENTS-PER-SECOND]]]
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { workloadOf } from './events.mjs';
import { Account, certificate, httpPeer, syslogPeer } from './peers.mjs';

export async function deliver({ events, kills, perSecond, workloads = 40, maxBytes = 8 << 20, say = () => {} }) {
  const directory = mkdtempSync(join(tmpdir(), 'belay-delivery-'));
  const { key, cert } = certificate(directory);
  const accounts = { siem: new Account(events), hook: new Account(events) };
  let well = false;
  const chance = (p) => !well && Math.random() < p;
  const syslogTrouble = { resets: () => chance(0.002), pause: () => (chance(0.02) ? 50 : 0) };
  const httpTrouble = {
    pause: () => (chance(0.05) ? 200 : 0),
    answer: () => {
      if (chance(0.05)) return 503;
      if (chance(0.03)) return 429;
      if (chance(0.02)) return 'reset';
      return chance(0.02) ? 'taken-and-reset' : 'ok';
    },
  };
  const peers = {
    siem: await syslogPeer({ key, cert }, accounts.siem, syslogTrouble),
    hook: await httpPeer(accounts.hook, httpTrouble),
  };
  const config = {
    ...{ events, workloads, batch: 2000, perSecond, maxBytes, pace: 0.1, caFile: cert },
    ...{ syslogPort: peers.siem.port, httpPort: peers.hook.port },
  };
  const produceSeconds = events / perSecond;
  let restarts = 0;
  let over = false;
  const restarting = (async () => {
    while (!over) {
      await sleep(1000 + Math.random() * Math.min(8000, produceSeconds * 250));
      if (over || well) continue;
      const name = Math.random() < 0.5 ? 'siem' : 'hook';
      const { port } = peers[name];
      await peers[name].stop();
      await sleep(Math.random() * 1500);
      peers[name] =
        name === 'siem'
          ? await syslogPeer({ key, cert }, accounts.siem, syslogTrouble, port)
          : await httpPeer(accounts.hook, httpTrouble, port);
      restarts++;
    }
  })();

  let killed = 0;
  const produced = () => {
    const path = join(directory, 'position');
    return existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0;
  };
  try {
    for (;;) {
      const agent = spawn(process.execPath, [join(import.meta.dirname, 'agent.mjs'), directory, JSON.stringify(config)], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      const ended = new Promise((resolve) => agent.once('exit', (code, signal) => resolve(signal ?? code)));
      const begun = produced();
      const until = begun + Math.random() * ((events - begun) / (kills - killed + 1));
      // once all has been produced, what is left is let through
      const timer = setInterval(() => {
        if (produced() >= events) well = true;
        if (killed < kills && produced() > until) agent.kill('SIGKILL');
      }, 20 + Math.random() * 30);
      const how = await ended;
      clearInterval(timer);
      if (how === 'SIGKILL') {
        killed++;
        say(`killed (${killed} of ${kills})`);
        continue;
      }
      if (how !== 0) throw new Error(`the agent ended with ${how}`);
      break;
    }
  } finally {
    over = true;
    await restarting;
    await peers.siem.stop();
    await peers.hook.stop();
    rmSync(directory, { recursive: true, force: true });
  }
  return { killed, restarts, results: Object.entries(accounts).map((each) => balance(each, events, workloads)) };
}

function balance([name, { seen, twice, lost, gaps }], events, workloads) {
  const produced = new Uint32Array(workloads);
  const delivered = new Uint32Array(workloads);
  for (let i = 0; i < events; i++) {
    const workload = workloadOf(i, workloads);
    produced[workload]++;
    delivered[workload] += seen[i];
  }
  const rows = Array.from(produced, (n, workload) => {
    const dropped = lost.get(`pod-${workload}`) ?? 0;
    return { workload, produced: n, delivered: delivered[workload], dropped };
  });
  const sum = (field) => rows.reduce((all, row) => all + row[field], 0);
  return {
    ...{ name, produced: events, delivered: sum('delivered'), dropped: sum('dropped'), twice, gaps: gaps.size },
    wrong: rows.filter((row) => row.delivered + row.dropped !== row.produced),
  };
}

if (process.argv[1] === import.meta.filename) {
  const [events = 5_000_000, kills = 6, perSecond = 12_000] = process.argv.slice(2).map(Number);
  const begun = performance.now();
  const say = (text) => process.stdout.write(`${((performance.now() - begun) / 1000).toFixed(0)} s: ${text}\n`);
  const { killed, restarts, results } = await deliver({ events, kills, perSecond, maxBytes: 64 << 20, say });
  say(`${events} events, agent killed ${killed} times, peers restarted ${restarts} times`);
  for (const { name, produced, delivered, dropped, twice, gaps, wrong } of results) {
    say(`${name}: ${delivered} delivered + ${dropped} counted in ${gaps} gaps = ${delivered + dropped} of ${produced}; ${twice} came twice`);
    for (const row of wrong.slice(0, 10)) say(`  WRONG ${JSON.stringify(row)}`);
    if (wrong.length > 0) process.exitCode = 1;
  }
  if (process.exitCode === undefined) say('every workload’s account balances');
}
