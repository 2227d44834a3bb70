import {
  Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { fromJSON, type MessageTypeDefinition } from '@grpc/proto-loader';

/**
 * The few calls of containerd's API that say which containers there are. Messages are declared with the fields that
 * are read and no others; their numbers are those of https://github.com/containerd/containerd/tree/main/api.
 */

export interface Container {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly image: string;
  /** The OCI runtime specification, as JSON. */
  readonly spec: { readonly value: Uint8Array } | null;
}

/** A container's first process; containerd gives it the container's id. */
interface Process {
  readonly id: string;
  readonly pid: number;
  readonly status: number;
}

interface Envelope {
  readonly namespace: string;
  readonly topic: string;
  readonly event: { readonly value: Uint8Array } | null;
}

const ANY = 'google.protobuf.Any';
const STRING = 'string';

type Field = readonly [number: number, type: string, form?: 'repeated' | 'map'];

/** A message by its fields, as protobufjs takes it. */
function message(fields: Readonly<Record<string, Field>>) {
  const entries = Object.entries(fields).map(([name, [id, type, form]]) => {
    const rule = form === 'repeated' ? { rule: 'repeated' } : {};
    return [name, { id, type, ...rule, ...(form === 'map' ? { keyType: STRING } : {}) }];
  });
  return { fields: Object.fromEntries(entries) };
}

const unary = (requestType: string, responseType: string) => ({ requestType, responseType });
const stream = (requestType: string, responseType: string) => ({
  requestType,
  responseType,
  responseStream: true,
});

const containers = {
  Containers: {
    methods: {
      Get: unary('GetContainerRequest', 'GetContainerResponse'),
      ListStream: stream('ListContainersRequest', 'ListContainerMessage'),
    },
  },
  Container: message({ id: [1, STRING], labels: [2, STRING, 'map'], image: [3, STRING], spec: [5, ANY] }),
  GetContainerRequest: message({ id: [1, STRING] }),
  GetContainerResponse: message({ container: [1, 'Container'] }),
  ListContainersRequest: message({ filters: [1, STRING, 'repeated'] }),
  ListContainerMessage: message({ container: [1, 'Container'] }),
};

const tasks = {
  Tasks: {
    methods: {
      Get: unary('GetRequest', 'GetResponse'),
      List: unary('ListTasksRequest', 'ListTasksResponse'),
    },
  },
  // containerd.v1.types.Process, with its status as a plain number
  Process: message({ container_id: [1, STRING], id: [2, STRING], pid: [3, 'uint32'], status: [4, 'int32'] }),
  GetRequest: message({ container_id: [1, STRING], exec_id: [2, STRING] }),
  GetResponse: message({ process: [1, 'Process'] }),
  ListTasksRequest: message({ filter: [1, STRING] }),
  ListTasksResponse: message({ tasks: [1, 'Process', 'repeated'] }),
};

const events = {
  Events: { methods: { Subscribe: stream('SubscribeRequest', 'Envelope') } },
  SubscribeRequest: message({ filters: [1, STRING, 'repeated'] }),
  Envelope: message({ namespace: [2, STRING], topic: [3, STRING], event: [4, ANY] }),
  // what ContainerCreate, ContainerUpdate, ContainerDelete, TaskCreate and TaskStart have in common
  AboutContainer: message({ id: [1, STRING] }),
};

const namespaces = {
  Namespaces: { methods: { List: unary('ListNamespacesRequest', 'ListNamespacesResponse') } },
  Namespace: message({ name: [1, STRING] }),
  ListNamespacesRequest: message({ filter: [1, STRING] }),
  ListNamespacesResponse: message({ namespaces: [1, 'Namespace', 'repeated'] }),
};

const nest = (path: string, nested: object): object =>
  path.split('.').reduceRight((inner, name) => ({ nested: { [name]: inner } }), { nested });

const SCHEMA = {
  nested: {
    google: {
      nested: { protobuf: { nested: { Any: message({ type_url: [1, STRING], value: [2, 'bytes'] }) } } },
    },
    containerd: nest('services', {
      containers: nest('v1', containers),
      tasks: nest('v1', tasks),
      events: nest('v1', events),
      namespaces: nest('v1', namespaces),
    }),
  },
};
const api = fromJSON(SCHEMA, { keepCase: true, defaults: true, arrays: true, objects: true, longs: String });

function method<Request, Response>(service: string, name: string): MethodDefinition<Request, Response> {
  const found = (api[`containerd.services.${service}`] as ServiceDefinition | undefined)?.[name];
  if (found === undefined) throw new Error(`containerd.services.${service} has no ${name}`);
  return found as MethodDefinition<Request, Response>;
}

interface ById {
  readonly id: string;
}
interface OneContainer {
  readonly container: Container | null;
}
const CONTAINER = method<ById, OneContainer>('containers.v1.Containers', 'Get');
const CONTAINERS = method<object, OneContainer>('containers.v1.Containers', 'ListStream');
const TASK = method<{ container_id: string }, { process: Process | null }>('tasks.v1.Tasks', 'Get');
const TASKS = method<object, { tasks: Process[] }>('tasks.v1.Tasks', 'List');
const NAMESPACES = method<object, { namespaces: { name: string }[] }>('namespaces.v1.Namespaces', 'List');
const SUBSCRIBE = method<{ filters: string[] }, Envelope>('events.v1.Events', 'Subscribe');
const ABOUT = api['containerd.services.events.v1.AboutContainer'] as MessageTypeDefinition<ById, ById>;

/** A container's life as far as it says who a cgroup belongs to. */
const TOPICS = [
  '/containers/create',
  '/containers/update',
  '/containers/delete',
  '/tasks/create',
  '/tasks/start',
];

const DEADLINE_MS = 10_000;

/** containerd itself sends no more than this. */
const MAX_MESSAGE_BYTES = 16 << 20;

const STOPPED = 3;

/** One connection to containerd. A call that fails throws grpc-js's `ServiceError`. */
export class ContainerdApi {
  readonly #client: Client;
  /** Under way. Closing the client alone would let them go on. */
  readonly #calls = new Set<{ cancel(): void }>();

  /** @param socket absolute path */
  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      // A pooled connection would remember earlier failures, and wait; when to try again is the caller's to say.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
    });
  }

  /** Calls that are under way fail. */
  close(): void {
    for (const call of this.#calls) call.cancel();
    this.#client.close();
  }

  async namespaces(): Promise<string[]> {
    const answer = await this.#call(NAMESPACES, {}, '');
    return answer.namespaces.map(({ name }) => name);
  }

  containers(namespace: string): Promise<Container[]> {
    const found: Container[] = [];
    const answers = this.#stream(CONTAINERS, {}, namespace, { deadline: Date.now() + DEADLINE_MS });
    return new Promise((resolve, reject) => {
      answers.on('data', ({ container }: OneContainer) => container !== null && found.push(container));
      answers.on('error', reject);
      answers.on('end', () => resolve(found));
    });
  }

  /** Undefined when there is none (any more). */
  async container(namespace: string, id: string): Promise<Container | undefined> {
    const answer = await this.#find(CONTAINER, { id }, namespace);
    return answer?.container ?? undefined;
  }

  /** Process ids of the containers that run, by container id. */
  async pids(namespace: string): Promise<ReadonlyMap<string, number>> {
    const answer = await this.#call(TASKS, {}, namespace);
    return new Map(answer.tasks.filter(runs).map(({ id, pid }) => [id, pid]));
  }

  /** Undefined when the container does not run. */
  async pid(namespace: string, id: string): Promise<number | undefined> {
    const answer = await this.#find(TASK, { container_id: id }, namespace);
    return answer?.process && runs(answer.process) ? answer.process.pid : undefined;
  }

  /** Tells of containers that may have changed, until the connection ends: then, once, why. */
  subscribe(onContainer: (namespace: string, id: string) => void, onEnd: (why: Error) => void): void {
    const filters = TOPICS.map((topic) => `topic=="${topic}"`);
    const envelopes = this.#stream(SUBSCRIBE, { filters }, '', {});
    envelopes.on('data', ({ namespace, event }: Envelope) => {
      const id = event === null ? '' : containerOf(event.value);
      if (id !== '') onContainer(namespace, id);
    });
    envelopes.on('error', onEnd);
    envelopes.on('end', () => onEnd(new Error('it ended the stream of events')));
  }

  #call<Q, A>(of: MethodDefinition<Q, A>, request: Q, namespace: string): Promise<A> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        of.path,
        of.requestSerialize,
        of.responseDeserialize,
        request,
        inNamespace(namespace),
        { deadline: Date.now() + DEADLINE_MS },
        (error, answer) => {
          this.#calls.delete(call);
          if (error !== null || answer === undefined) reject(error);
          else resolve(answer);
        },
      );
      this.#calls.add(call);
    });
  }

  async #find<Q, A>(of: MethodDefinition<Q, A>, request: Q, namespace: string): Promise<A | undefined> {
    try {
      return await this.#call(of, request, namespace);
    } catch (error) {
      if (error instanceof Error && (error as ServiceError).code === status.NOT_FOUND) return undefined;
      throw error;
    }
  }

  #stream<Q, A>(
    of: MethodDefinition<Q, A>,
    request: Q,
    namespace: string,
    options: { deadline?: number },
  ): ClientReadableStream<A> {
    const metadata = inNamespace(namespace);
    const { path, requestSerialize, responseDeserialize } = of;
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      options,
    );
    this.#calls.add(call);
    call.on('status', () => this.#calls.delete(call));
    return call;
  }
}

/** Empty if the bytes say none: any client of containerd may publish events, under these topics too. */
function containerOf(event: Uint8Array): string {
  try {
    return ABOUT.deserialize(Buffer.from(event)).id;
  } catch {
    return '';
  }
}

function runs({ pid, status: now }: Process): boolean {
  return pid > 0 && now !== STOPPED;
}

function inNamespace(namespace: string): Metadata {
  const metadata = new Metadata();
  if (namespace !== '') metadata.set('containerd-namespace', namespace);
  return metadata;
}
