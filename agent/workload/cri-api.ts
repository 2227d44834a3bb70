import {
  Client,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';

/**
 * The calls of the Container Runtime Interface that say which containers there are. Messages are declared with the fields
 * that are read and no others; their numbers are those of https://github.com/kubernetes/cri-api, the same in v1 and
 * v1alpha2.
 */

export interface CriContainer {
  readonly id: string;
  readonly metadata: { readonly name: string } | null;
  readonly image: { readonly image: string; readonly user_specified_image: string } | null;
  readonly image_ref: string;
  /** A number where it is one that is not known here. */
  readonly state: keyof typeof STATES | number;
  readonly labels: Readonly<Record<string, string>>;
}

export interface CriSandbox {
  readonly id: string;
  readonly metadata: { readonly uid: string } | null;
}

export interface CriVersion {
  readonly runtime_name: string;
  readonly runtime_version: string;
}

const text = (id: number) => ({ id, type: 'string' });
const message = (fields: object) => ({ fields });

const STATES = { CONTAINER_CREATED: 0, CONTAINER_RUNNING: 1, CONTAINER_EXITED: 2, CONTAINER_UNKNOWN: 3 };

const MESSAGES = {
  RuntimeService: {
    methods: {
      Version: { requestType: 'Empty', responseType: 'VersionResponse' },
      ListContainers: { requestType: 'Empty', responseType: 'ListContainersResponse' },
      ListPodSandbox: { requestType: 'Empty', responseType: 'ListPodSandboxResponse' },
      GetContainerEvents: { requestType: 'Empty', responseType: 'Empty', responseStream: true },
    },
  },
  Empty: message({}),
  VersionResponse: message({ runtime_name: text(2), runtime_version: text(3) }),
  ListContainersResponse: message({ containers: { id: 1, type: 'Container', rule: 'repeated' } }),
  Container: message({
    id: text(1),
    metadata: { id: 3, type: 'ContainerMetadata' },
    image: { id: 4, type: 'ImageSpec' },
    image_ref: text(5),
    state: { id: 6, type: 'ContainerState' },
    labels: { id: 8, type: 'string', keyType: 'string' },
  }),
  ContainerState: { values: STATES },
  ContainerMetadata: message({ name: text(1) }),
  // newer runtimes say the image's id and how it was asked for
  ImageSpec: message({ image: text(1), user_specified_image: text(18) }),
  ListPodSandboxResponse: message({ items: { id: 1, type: 'PodSandbox', rule: 'repeated' } }),
  PodSandbox: message({ id: text(1), metadata: { id: 2, type: 'PodSandboxMetadata' } }),
  PodSandboxMetadata: message({ uid: text(2) }),
};

/** Newest first. */
const VERSIONS = ['v1', 'v1alpha2'] as const;

const packages = fromJSON(
  { nested: { runtime: { nested: { v1: { nested: MESSAGES }, v1alpha2: { nested: MESSAGES } } } } } as never,
  { keepCase: true, defaults: true, arrays: true, objects: true, longs: String, enums: String },
);

function method<A>(name: string, version: string): MethodDefinition<object, A> {
  const service = packages[`runtime.${version}.RuntimeService`] as ServiceDefinition;
  return service[name] as MethodDefinition<object, A>;
}

const DEADLINE_MS = 10_000;
const MAX_MESSAGE_BYTES = 16 << 20;

/** One connection to a runtime. A call that fails throws grpc-js's `ServiceError`. */
export class CriApi {
  readonly #client: Client;
  /** Under way. Closing the client alone would let them go on. */
  readonly #calls = new Set<{ cancel(): void }>();
  #version: (typeof VERSIONS)[number] = VERSIONS[0];

  /** @param socket absolute path */
  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      // a pooled connection would remember earlier failures, and wait; when to try again is the caller's to say
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
    });
  }

  /** Calls that are under way fail. */
  close(): void {
    for (const call of this.#calls) call.cancel();
    this.#client.close();
  }

  version(): Promise<CriVersion> {
    return this.#call<CriVersion>('Version');
  }

  async containers(): Promise<readonly CriContainer[]> {
    return (await this.#call<{ containers: CriContainer[] }>('ListContainers')).containers;
  }

  async sandboxes(): Promise<readonly CriSandbox[]> {
    return (await this.#call<{ items: CriSandbox[] }>('ListPodSandbox')).items;
  }

  /**
   * Tells that something happened to some container, until the connection ends: then, once, why. A runtime that does
   * not do that, as many do not, never tells.
   */
  events(onEvent: () => void, onEnd: (why: Error) => void): void {
    const { path, requestSerialize, responseDeserialize } = method<unknown>(
      'GetContainerEvents',
      this.#version,
    );
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      {},
      new Metadata(),
    );
    this.#calls.add(call);
    call.on('data', onEvent);
    call.on('error', () => {}); // its status says it too
    call.on('status', ({ code, details }) => {
      this.#calls.delete(call);
      if (code !== status.UNIMPLEMENTED) onEnd(new Error(details || 'it ended the stream of events'));
    });
  }

  async #call<A>(name: string): Promise<A> {
    try {
      return await this.#callVersion<A>(name, this.#version);
    } catch (error) {
      const older = VERSIONS[VERSIONS.indexOf(this.#version) + 1];
      if (older === undefined || (error as ServiceError).code !== status.UNIMPLEMENTED) throw error;
      const answer = await this.#callVersion<A>(name, older);
      this.#version = older;
      return answer;
    }
  }

  #callVersion<A>(name: string, version: string): Promise<A> {
    const { path, requestSerialize, responseDeserialize } = method<A>(name, version);
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        {},
        new Metadata(),
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
}
