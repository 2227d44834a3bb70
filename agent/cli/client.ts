import { type IncomingMessage, request } from 'node:http';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { Option } from 'commander';
import type { BelayRecord } from '../event/record.js';
import { Definitions } from '../serve/definitions.js';

export const DEFAULT_SOCKET = '/run/belay/belay.sock';

const DEADLINE_MS = 15_000;
const SERVICE = 'belay.v1.Belay';

export const socketOption = () =>
  new Option('--socket <path>', "the agent's unix socket").env('BELAY_SOCKET').default(DEFAULT_SOCKET);

/** A connection to this node's agent. */
export class AgentClient {
  readonly #socket: string;
  readonly #client: Client;
  readonly #definitions = new Definitions();
  readonly #streams = new Set<IncomingMessage>();
  #closed = false;

  constructor(socket: string) {
    this.#socket = socket;
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.enable_http_proxy': 0,
      // all processes of a node, with their arguments
      'grpc.max_receive_message_length': 64 << 20,
    });
  }

  /** @throws Error that says what to do */
  ask<A>(method: string, request: object = {}): Promise<A> {
    const { path, requestSerialize, responseDeserialize } = this.#definitions.method<object, A>(
      SERVICE,
      method,
    );
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        new Metadata(),
        { deadline: Date.now() + DEADLINE_MS },
        (error, answer) => {
          if (error === null && answer !== undefined) resolve(answer);
          else reject(this.#said(error));
        },
      );
    });
  }

  /**
   * Records as they come, in the form that they have in files; `query` is that of /v1/events.
   * @throws Error that says what to do, also while it goes on
   */
  async *records(query: Readonly<Record<string, string | readonly string[]>>): AsyncGenerator<BelayRecord> {
    const parameters = new URLSearchParams();
    for (const [name, values] of Object.entries(query))
      for (const value of [values].flat()) parameters.append(name, value);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const asked = request(
        { socketPath: this.#socket, path: `/v1/events?${parameters}`, agent: false },
        resolve,
      );
      asked.on('error', () => reject(this.#away()));
      asked.end();
    });
    this.#streams.add(response);
    let rest = '';
    try {
      for await (const chunk of response.setEncoding('utf8')) {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line === '') continue;
          const value = JSON.parse(line) as BelayRecord | { readonly error: string };
          if ('error' in value) throw new Error(value.error);
          yield value;
        }
      }
    } catch (error) {
      if (this.#closed) return;
      const lost = (error as { code?: string }).code === 'ECONNRESET';
      throw lost ? new Error('the agent has ended the connection') : error;
    } finally {
      this.#streams.delete(response);
      response.destroy();
    }
  }

  close(): void {
    this.#closed = true;
    for (const stream of this.#streams) stream.destroy();
    this.#client.close();
  }

  #said(error: ServiceError | null): Error {
    if (error?.code !== status.UNAVAILABLE) return new Error(error?.details ?? 'no answer');
    return this.#away();
  }

  #away(): Error {
    return new Error(
      `no agent answers at ${this.#socket}: is one running, are you root or of its group, is --socket right?`,
    );
  }
}

/** Runs what talks to an agent; what goes wrong is said in a line, and the exit status is 1. */
export async function withAgent(
  command: string,
  socket: string,
  run: (agent: AgentClient) => Promise<void>,
): Promise<void> {
  const agent = new AgentClient(socket);
  try {
    await run(agent);
  } catch (error) {
    process.stderr.write(`belay ${command}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  } finally {
    agent.close();
  }
}
