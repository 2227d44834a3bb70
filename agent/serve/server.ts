import type { Logger } from 'pino';
import type { KubeArmorSettings } from '../event/kubearmor.js';
import type { EventLog } from '../event/log.js';
import type { Peer } from '../kernel/addon.js';
import { type Authenticate, everything } from './access.js';
import { type Authorities, authenticator, unsafe } from './authenticate.js';
import { belayService } from './belay.js';
import { Door } from './door.js';
import { logService, probeService } from './kubearmor.js';
import { type Listener, listenTcp, listenUnix } from './listen.js';
import type { NodeView } from './node-view.js';
import { streamHttp } from './stream-http.js';
import { TlsFiles, type TlsPaths } from './tls-files.js';
import { Watch } from './watch.js';

/** At each door, so that nobody on the network keeps the node's own from watching. */
const MAX_WATCHERS = 64;
/** Of one caller that has shown who it is. */
const MAX_WATCHERS_EACH = 8;

export interface ServerOptions {
  readonly node: NodeView;
  readonly events: EventLog;
  readonly log: Logger;
  /** Of what KubeArmor's clients are given; as they are at any moment. */
  readonly kubeArmor?: () => KubeArmorSettings;
  /** For root and a group of this node; they may see everything. */
  readonly socket?: { readonly path: string; readonly group?: number; readonly peer: (fd: number) => Peer };
  /** For everyone who can show who they are. */
  readonly network?: {
    /** host:port, [IPv6 address]:port or :port. */
    readonly address: string;
    readonly tls?: TlsPaths;
    readonly authorities?: Omit<Authorities, 'certificates'>;
  };
}

export interface Serving {
  /** Of the network's address; 0 = there is none. */
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves what happens on the node and what is in force there: gRPC (belay.v1.Belay, KubeArmor's services) and HTTP streams, on
 * a unix socket and on an address.
 * @returns after it listens
 * @throws Error when it cannot, or when the address would be open to everyone
 */
export async function serve({
  node,
  events,
  log,
  kubeArmor,
  socket,
  network,
}: ServerOptions): Promise<Serving> {
  const open: { close(): unknown }[] = [];
  const doorFor = (authenticate: Authenticate, each = MAX_WATCHERS): Door => {
    const watch = new Watch({ log: events, node: node.health().node, watchers: MAX_WATCHERS, each });
    const makeGrpc = async () => {
      // much code, which an agent that nobody asks does without
      const [{ GrpcServer }, { Definitions }] = await Promise.all([
        import('./grpc.js'),
        import('./definitions.js'),
      ]);
      const grpc = new GrpcServer(authenticate);
      const definitions = new Definitions();
      grpc.add(definitions, 'belay.v1.Belay', belayService(node, watch));
      grpc.add(definitions, 'feeder.LogService', logService(node, watch, kubeArmor));
      grpc.add(definitions, 'policy.ProbeService', probeService(node));
      return grpc;
    };
    const door = new Door(makeGrpc, (request, response) => {
      const [path] = (request.url ?? '').split('?');
      if (path === '/v1/events' && request.method === 'GET')
        return void streamHttp(request, response, { watch, authenticate });
      response.writeHead(path === '/v1/events' ? 405 : 404, { 'content-type': 'text/plain; charset=utf-8' });
      response.end('there is GET /v1/events, and gRPC\n');
    });
    open.push(door);
    return door;
  };
  const listen = async (): Promise<number> => {
    if (socket !== undefined) {
      const door = doorFor(() => everything('local'));
      open.push(await listenUnix({ ...socket, log, take: (each) => door.take(each) }));
      log.info({ path: socket.path }, 'serving on a unix socket');
    }
    if (network === undefined) return 0;
    const { address, tls: paths, authorities = {} } = network;
    const certificates = paths?.clientCa !== undefined;
    const tokens = authorities.tokens !== undefined || authorities.oidc !== undefined;
    const why = unsafe(address, { tls: paths !== undefined, authenticated: certificates || tokens });
    if (why !== undefined) throw new Error(why);
    const tls = paths && new TlsFiles(paths, log);
    if (tls) open.push(tls);
    const known = certificates || tokens;
    const door = known
      ? doorFor(authenticator({ ...authorities, certificates }), MAX_WATCHERS_EACH)
      : doorFor(() => everything('loopback'));
    const take = door.take.bind(door);
    const listener: Listener = await listenTcp({ address, tls, certificateOptional: tokens, take });
    open.push(listener);
    log.info({ address, tls: tls !== undefined }, 'serving on the network');
    return listener.port;
  };
  const close = async () => {
    // listeners end when their connections have, so doors come first; what was opened last goes last
    const ending = open.splice(0).map((each) => each.close());
    await Promise.all(ending);
  };
  try {
    return { port: await listen(), close };
  } catch (error) {
    await close();
    throw error;
  }
}
