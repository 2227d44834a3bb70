import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import type { BelayRecord } from '../event/record.js';
import { type Access, type Authenticate, bearerOf, type Credentials, Refusal } from './access.js';
import { certificateOf } from './certificate.js';
import type { Definitions } from './definitions.js';
import type { Outlet } from './watch.js';

/** A request has a filter in it at most. */
const MAX_REQUEST_BYTES = 64 << 10;

const CODES: Readonly<Record<Refusal['kind'], status>> = {
  unauthenticated: status.UNAUTHENTICATED,
  forbidden: status.PERMISSION_DENIED,
  invalid: status.INVALID_ARGUMENT,
  busy: status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
};

/** One answer, or a stream of them: what a service does for a caller that is known. */
export type Unary<Q, A> = (request: Q, access: Access) => A | Promise<A>;
export type Stream<Q> = (request: Q, access: Access, outlet: Outlet) => Promise<void>;
export type Methods = Readonly<Record<string, { unary: Unary<never, object> } | { stream: Stream<never> }>>;

/**
 * A gRPC server without an address: connections are given to it. Every call's caller is found out before anything is done
 * for it.
 */
export class GrpcServer {
  readonly #server = new Server({
    'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
    // finds callers that have vanished
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 20_000,
    'grpc.max_concurrent_streams': 32,
  });
  readonly #injector;
  readonly #authenticate: Authenticate;

  constructor(authenticate: Authenticate) {
    this.#authenticate = authenticate;
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
  }

  add(definitions: Definitions, service: string, methods: Methods): void {
    const handlers = Object.entries(methods).map(([name, method]) => [
      name,
      'unary' in method ? this.#unary(method.unary) : this.#stream(method.stream),
    ]);
    this.#server.addService(definitions.service(service), Object.fromEntries(handlers));
  }

  /** A connection of one that speaks HTTP/2; TLS, if any, is behind it. */
  take(connection: import('node:stream').Duplex): void {
    this.#injector.injectConnection(connection);
  }

  close(): void {
    this.#injector.destroy();
    this.#server.forceShutdown();
  }

  #unary<Q, A>(method: Unary<Q, A>) {
    return (call: ServerUnaryCall<Q, A>, done: sendUnaryData<A>): void => {
      const answer = async () => method(call.request, await this.#authenticate(credentialsOf(call)));
      answer().then(
        (value) => done(null, value),
        (error: unknown) => done(failure(error)),
      );
    };
  }

  #stream<Q>(method: Stream<Q>) {
    return (call: ServerWritableStream<Q, object>): void => {
      const outlet = outletOf(call);
      const serve = async () => method(call.request, await this.#authenticate(credentialsOf(call)), outlet);
      serve().then(
        () => call.end(),
        (error: unknown) => {
          // a caller that is gone is told nothing
          if (!outlet.gone) call.emit('error', failure(error));
        },
      );
    };
  }
}

function credentialsOf(call: {
  metadata: Metadata;
  getAuthContext(): { sslPeerCertificate?: import('node:tls').PeerCertificate };
}): Credentials {
  return {
    certificate: certificateOf(call.getAuthContext().sslPeerCertificate),
    bearer: bearerOf(call.metadata.get('authorization')[0]?.toString()),
  };
}

function outletOf(call: ServerWritableStream<unknown, BelayRecord | object>): Outlet {
  let gone = false;
  /** Of the one who waits for room. */
  let wake = () => {};
  const listeners: (() => void)[] = [];
  const end = () => {
    gone = true;
    wake();
    for (const listener of listeners.splice(0)) listener();
  };
  call.on('drain', () => wake());
  call.on('cancelled', end);
  call.on('close', end);
  call.on('error', end);
  return {
    get gone() {
      return gone || call.cancelled;
    },
    begin: () => call.sendMetadata(new Metadata()),
    onGone: (listener) => listeners.push(listener),
    write: (record) => call.write(record),
    drained: () =>
      new Promise((resolve) => {
        if (gone || !call.writableNeedDrain) return resolve();
        wake = resolve;
      }),
  };
}

function failure(error: unknown): Partial<ServiceError> {
  if (error instanceof Refusal) return { code: CODES[error.kind], details: error.message };
  return { code: status.INTERNAL, details: error instanceof Error ? error.message : String(error) };
}
