import { type ChannelCredentials, Client, type ClientReadableStream, Metadata } from '@grpc/grpc-js';
import { Definitions } from '../../agent/serve/definitions.js';
import type { NodeView } from '../../agent/serve/node-view.js';

/** A node with a policy and a workload in two namespaces, and counters. */
export const NODE: NodeView = {
  policies: () => [
    policy({ name: 'no-shells', namespace: 'shop' }),
    policy({ name: 'vault', namespace: 'bank' }),
    policy({ name: 'everywhere', namespace: '', kind: 'ClusterWorkloadPolicy' }),
  ],
  workloads: () => [
    {
      ...{ namespace: 'shop', name: 'web-1', container: 'nginx', containerId: 'c0ffee', image: 'nginx:1' },
      ...{ labels: { app: 'web' }, owner: { kind: 'Deployment', name: 'web' }, policies: ['no-shells'] },
      ...{ denied: '7', reported: '1', lost: '0' },
    },
  ],
  processes: (namespace, pod) =>
    `${namespace}/${pod}` === 'shop/web-1'
      ? [
          {
            ...{ pid: 70, comm: 'nginx', arguments: ['nginx', '-g', 'daemon off;'], uid: 33, started: '5' },
            parent: { pid: 60, program: 'containerd-shim' },
          },
        ]
      : [],
  health: () => ({
    ...{ trouble: '', waiting: '', version: '1.2.3', kernel: '6.12.0', node: 'node-1', cluster: 'prod' },
  }),
  costs: () => ({
    programs: [{ name: 'file_open', runs: '10', nanoseconds: '3000' }],
    maps: [{ name: 'arena', used: '4096', capacity: '33554432', unit: 'bytes' }],
    failures: { FAILURE_BIND: '1' },
    unmeasured: '',
  }),
};

function policy(fields: { name: string; namespace: string; kind?: string }) {
  const more = { mode: 'Enforce', rules: 3, workloads: 1, state: 'in_force', problems: [] } as const;
  return { kind: 'WorkloadPolicy', ...more, ...fields };
}

export interface Message {
  readonly type: string;
  readonly sequence: string;
  readonly message: string;
  readonly lost: string;
  readonly namespace: string;
  readonly [field: string]: unknown;
}

/** A stream's messages, one at a time; an error is thrown each time that it is asked after. */
export class Received {
  readonly #call: ClientReadableStream<Message>;
  readonly #waiting: Message[] = [];
  #error: Error | undefined;
  #ended = false;
  #changed: () => void = () => {};

  constructor(call: ClientReadableStream<Message>) {
    this.#call = call;
    call.on('data', (message) => {
      this.#waiting.push(message);
      this.#changed();
    });
    call.on('error', (error) => {
      this.#error = error;
      this.#changed();
    });
    call.on('end', () => {
      this.#ended = true;
      this.#changed();
    });
  }

  async next(): Promise<Message> {
    for (;;) {
      const message = this.#waiting.shift();
      if (message !== undefined) return message;
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) throw new Error('there is nothing more');
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  async all(): Promise<Message[]> {
    while (!this.#ended && this.#error === undefined)
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    if (this.#error !== undefined) throw this.#error;
    return this.#waiting.splice(0);
  }

  pause(): void {
    this.#call.pause();
  }

  resume(): void {
    this.#call.resume();
  }
}

const definitions = new Definitions();

/** A client of all services on one connection of its own. */
export class Caller {
  readonly #client: Client;
  readonly #metadata = new Metadata();
  readonly #calls: { cancel(): void }[] = [];

  constructor(
    target: string,
    credentials: ChannelCredentials,
    options: { token?: string; name?: string } = {},
  ) {
    const more = options.name === undefined ? {} : { 'grpc.ssl_target_name_override': options.name };
    this.#client = new Client(target, credentials, {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
      ...more,
    });
    if (options.token !== undefined) this.#metadata.set('authorization', `Bearer ${options.token}`);
  }

  ask(name: string, request: object, service = 'belay.v1.Belay'): Promise<Record<string, unknown>> {
    const { path, requestSerialize, responseDeserialize } = definitions.method<
      object,
      Record<string, unknown>
    >(service, name);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        this.#metadata,
        { deadline: Date.now() + 60_000 },
        (error, answer) => (error || answer === undefined ? reject(error) : resolve(answer)),
      );
    });
  }

  /** Resolves when the server has begun, or has refused. */
  stream(service: string, name: string, request: object): Promise<Received> {
    const { path, requestSerialize, responseDeserialize } = definitions.method<object, Message>(
      service,
      name,
    );
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      this.#metadata,
    );
    this.#calls.push(call);
    const received = new Received(call);
    return new Promise((resolve) => {
      call.on('metadata', () => resolve(received));
      call.on('error', () => resolve(received));
    });
  }

  watch(request: object): Promise<Received> {
    return this.stream('belay.v1.Belay', 'Watch', request);
  }

  /** Calls that are under way are cancelled; closing alone would let them go on. */
  close(): void {
    for (const call of this.#calls) call.cancel();
    this.#client.close();
  }
}
