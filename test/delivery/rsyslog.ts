import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

/** Debian's rsyslogd, for one test: TLS, plain TCP and UDP on ports of its own, and a file that it writes to. */
export class Rsyslog {
  readonly file: string;
  readonly #config: string;
  #process: ChildProcess | undefined;

  private constructor(directory: string) {
    this.file = join(directory, 'received');
    this.#config = join(directory, 'rsyslog.conf');
  }

  static async start(
    directory: string,
    tls: { readonly key: string; readonly cert: string },
  ): Promise<Rsyslog & { readonly ports: { tls: number; tcp: number; udp: number } }> {
    const ports = { tls: await freePort(), tcp: await freePort(), udp: await freePort() };
    const rsyslog = new Rsyslog(directory);
    writeFileSync(
      rsyslog.#config,
      `
global(workDirectory="${directory}" DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="${tls.cert}"
  DefaultNetstreamDriverCertFile="${tls.cert}" DefaultNetstreamDriverKeyFile="${tls.key}")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.Authmode="anon")
module(load="imptcp")
module(load="imudp")
template(name="all" type="list" option.jsonf="off") {
  property(name="pri") constant(value=" ") property(name="timestamp" dateFormat="rfc3339") constant(value=" ")
  property(name="hostname") constant(value=" ") property(name="app-name") constant(value=" ")
  property(name="msgid") constant(value=" ") property(name="structured-data") constant(value=" ")
  property(name="msg") constant(value="\\n")
}
main_queue(queue.type="Direct")
input(type="imtcp" address="127.0.0.1" port="${ports.tls}")
input(type="imptcp" address="127.0.0.1" port="${ports.tcp}")
input(type="imudp" address="127.0.0.1" port="${ports.udp}")
*.* action(type="omfile" file="${rsyslog.file}" template="all")
`,
    );
    writeFileSync(rsyslog.file, '');
    await rsyslog.up();
    return Object.assign(rsyslog, { ports });
  }

  async up(): Promise<void> {
    const command = ['-n', '-f', this.#config, '-i', 'NONE'];
    this.#process = spawn('/usr/sbin/rsyslogd', command, { stdio: 'ignore' });
  }

  async down(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const running = this.#process;
    if (running === undefined || running.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill(signal);
    await ended;
  }

  get lines(): string[] {
    return readFileSync(this.file, 'utf8').split('\n').slice(0, -1);
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
