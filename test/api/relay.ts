import { connect, createServer, type Server, type Socket } from 'node:net';
import { freePort } from './control-plane.js';

/** A way to a server on this machine that can be cut, or fall silent, while the server lives on. */
export class Relay {
  readonly port: number;
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #silent = false;
  /** How many connections were made through it. */
  connections = 0;

  private constructor(target: number, port: number) {
    this.port = port;
    this.#server = createServer((client) => {
      this.connections++;
      const server = connect(target, '127.0.0.1');
      const pair = [client, server] as const;
      this.#pairs.add(pair);
      const end = () => {
        this.#pairs.delete(pair);
        client.destroy();
        server.destroy();
      };
      for (const [from, to] of [pair, [server, client] as const]) {
        from.on('data', (chunk) => {
          if (!this.#silent) to.write(chunk);
        });
        from.on('error', end).on('close', end);
      }
    });
  }

  /** @param own a port of its own that it had before */
  static async to(target: number, own?: number): Promise<Relay> {
    const relay = new Relay(target, own ?? (await freePort()));
    await new Promise<void>((resolve) => relay.#server.listen(relay.port, '127.0.0.1', resolve));
    return relay;
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** Ends all connections; new ones can be made. */
  cut(): void {
    for (const [client, server] of this.#pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
  }

  /** From now on what comes is swallowed, and nobody is told. */
  set silent(silent: boolean) {
    this.#silent = silent;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
