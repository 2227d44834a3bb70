// An agent as far as delivery goes, to be killed at any time: records come from a ring whose consumer's position outlives
// it (here a file), as the kernel's ring buffers do; sinks, spools and transports are the real ones.
// Usage: agent.mjs DIRECTORY CONFIG (JSON: events, workloads, batch, perSecond, maxBytes, syslogPort, httpPort, caFile, pace)
import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { FORMATS } from '../../dist/sink/formats/format.js';
import { Sink } from '../../dist/sink/sink.js';
import { Sinks } from '../../dist/sink/sinks.js';
import { Syslog } from '../../dist/sink/transports/syslog.js';
import { Webhook } from '../../dist/sink/transports/webhook.js';
import { recordOf } from './events.mjs';

const [directory, text] = process.argv.slice(2);
const config = JSON.parse(text);
const sink = (name, transport) =>
  new Sink({
    ...{ name, node: 'node-1', filter: {}, transport, directory: join(directory, name) },
    ...{ maxBytes: config.maxBytes, pace: config.pace },
  });
const { belay: format } = FORMATS;
const tls = { caFile: config.caFile, serverName: 'localhost' };
const sinks = new Sinks([
  sink('siem', new Syslog({ protocol: 'tls', host: '127.0.0.1', port: config.syslogPort, tls, format })),
  sink(
    'hook',
    new Webhook({ url: `http://127.0.0.1:${config.httpPort}/`, tls: {}, format, contentType: 'application/x-ndjson' }),
  ),
]);

const path = join(directory, 'position');
let next = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0;
const position = openSync(path, 'a+');
closeSync(position);
const fd = openSync(path, 'r+');
const begun = performance.now();
const first = next;
while (next < config.events) {
  const end = Math.min(config.events, next + config.batch);
  for (let i = next; i < end; i++) sinks.write(recordOf(i, config.workloads), { source: 'ring', at: i });
  sinks.flush();
  next = end;
  writeSync(fd, String(next).padStart(12), 0);
  const due = begun + ((next - first) / config.perSecond) * 1000;
  if (due > performance.now()) await sleep(due - performance.now());
  else await turn();
}
// all that is kept, and all that was counted, has been told
for (;;) {
  const stats = sinks.stats;
  if (stats.every(({ waiting, untold }) => waiting === 0 && untold === 0)) break;
  await sleep(50);
}
await sinks.close();
process.stdout.write('done\n');
process.exit(0);
