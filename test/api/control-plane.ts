import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { get as httpGet } from 'node:http';
import { get } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';

/**
 * A real Kubernetes control plane for tests, without root and on this machine alone: etcd and kube-apiserver as
 * ordinary processes, certificates by openssl. `ControlPlane` is both of them with nothing special; who needs more
 * (a node elsewhere, controllers) puts the pieces together: `Pki`, `startEtcd`, `startApiServer`, `startDaemon`.
 */

/**
 * The folder with Kubernetes' programs: `KUBEBUILDER_ASSETS`, as its own tools have it.
 * @returns undefined, after having said so, when it is not there or lacks one of `programs`
 */
export function kubernetesPrograms(
  what: string,
  programs: readonly string[] = ['kube-apiserver'],
): string | undefined {
  const folder = process.env.KUBEBUILDER_ASSETS;
  const missing = (folder ? programs : []).filter((name) => !executable(join(folder ?? '', name)));
  const why = !folder
    ? 'KUBEBUILDER_ASSETS is not set'
    : missing.length > 0
      ? `${folder} (KUBEBUILDER_ASSETS) lacks ${missing.join(', ')}`
      : undefined;
  if (why === undefined) return folder;
  process.stderr.write(
    `\n!!! SKIPPED: ${what}, because ${why}; name a folder with ${programs.join(', ')}\n\n`,
  );
  return undefined;
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A process of the control plane. It ends when this one does, however that happens. */
export class Daemon {
  readonly name: string;
  readonly log: string;
  readonly #process: ChildProcess;
  readonly #ended: Promise<void>;
  #running = true;

  constructor(name: string, log: string, child: ChildProcess) {
    this.name = name;
    this.log = log;
    this.#process = child;
    this.#ended = new Promise((resolve) => {
      const ended = () => {
        this.#running = false;
        resolve();
      };
      child.once('exit', ended);
      child.once('error', ended);
    });
  }

  get running(): boolean {
    return this.#running;
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** The end of what it has said. */
  get said(): string {
    return readFileSync(this.log, 'utf8').split('\n').slice(-12).join('\n');
  }

  /** Kills by default: etcd keeps what it has promised, and the API server has nothing to keep. */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#running) this.#process.kill(signal);
    await this.#ended;
  }
}

/** Starts a program whose output goes to `folder`/NAME.log. */
export function startDaemon(folder: string, name: string, program: string, args: readonly string[]): Daemon {
  const log = join(folder, `${name}.log`);
  const output = openSync(log, 'a');
  try {
    // setpriv ties the program's life to ours
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], {
      stdio: ['ignore', output, output],
    });
    return new Daemon(name, log, child);
  } finally {
    closeSync(output);
  }
}

/**
 * Waits until `ready` says true (an exception says no).
 * @throws when that takes longer than `seconds`, or one of the daemons ends meanwhile
 */
export async function until(
  ready: () => boolean | Promise<boolean>,
  daemons: readonly Daemon[] = [],
  seconds = 120,
): Promise<void> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    try {
      if (await ready()) return;
    } catch {
      // not yet
    }
    const dead = daemons.find(({ running }) => !running);
    if (dead !== undefined) throw new Error(`${dead.name} has ended:\n${dead.said}`);
    if (performance.now() > end) {
      throw new Error(
        [`not ready within ${seconds} s`, ...daemons.map((d) => `${d.name}:\n${d.said}`)].join('\n'),
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * A port of 127.0.0.1 that nobody listens on. Not one of those that the kernel gives to clients: while a server is
 * down, a client that tries again and again to reach such a port may be given it, and connects to itself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

export interface Certificate {
  /** Paths of PEM files. */
  readonly certificate: string;
  readonly key: string;
}

/** A certificate authority in a folder of its own, and what it signs. */
export class Pki {
  readonly folder: string;
  readonly ca: Certificate;

  constructor(folder: string) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.folder = folder;
    this.ca = this.#make('ca', { CN: 'belay-test-ca' }, [
      'basicConstraints=critical,CA:TRUE',
      'keyUsage=critical,keyCertSign,cRLSign',
      'subjectKeyIdentifier=hash',
    ]);
  }

  /** For a client, e.g. `{ O: 'system:masters', CN: 'admin' }`: Kubernetes reads groups and name from it. */
  client(name: string, subject: Readonly<Record<string, string>>): Certificate {
    return this.#make(name, subject, ['keyUsage=critical,digitalSignature', 'extendedKeyUsage=clientAuth']);
  }

  /** For a server that is also a client, as a kubelet is; `names` as openssl writes them: `IP:…`, `DNS:…`. */
  server(name: string, subject: Readonly<Record<string, string>>, names: readonly string[]): Certificate {
    return this.#make(name, subject, [
      'keyUsage=critical,digitalSignature',
      'extendedKeyUsage=serverAuth,clientAuth',
      `subjectAltName=${names.join(',')}`,
    ]);
  }

  /** The key pair that signs service accounts' tokens. */
  tokens(): { readonly privateKey: string; readonly publicKey: string } {
    const privateKey = join(this.folder, 'sa.key');
    const publicKey = join(this.folder, 'sa.pub');
    openssl(['ecparam', '-genkey', '-name', 'prime256v1', '-noout', '-out', privateKey]);
    openssl(['ec', '-in', privateKey, '-pubout', '-out', publicKey]);
    return { privateKey, publicKey };
  }

  /** Writes a kubeconfig for one who has `user`'s certificate. @returns its path */
  kubeconfig(name: string, server: string, user: Certificate): string {
    const path = join(this.folder, name);
    const data = (file: string) => readFileSync(file).toString('base64');
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        { name: 'test', cluster: { server, 'certificate-authority-data': data(this.ca.certificate) } },
      ],
      users: [
        {
          name: 'me',
          user: {
            'client-certificate-data': data(user.certificate),
            'client-key-data': data(user.key),
          },
        },
      ],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'me' } }],
      'current-context': 'test',
    };
    writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
    return path;
  }

  #make(name: string, subject: Readonly<Record<string, string>>, extensions: readonly string[]): Certificate {
    const at = (suffix: string) => join(this.folder, `${name}.${suffix}`);
    const names = Object.entries(subject).map(([key, value]) => `${key}=${value}`);
    const head = ['[req]', 'distinguished_name=d', 'x509_extensions=e', 'prompt=no'];
    writeFileSync(at('cnf'), [...head, '[d]', ...names, '[e]', ...extensions, ''].join('\n'));
    const signer = name === 'ca' ? [] : ['-CA', this.ca.certificate, '-CAkey', this.ca.key];
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30'];
    openssl([
      ...['req', '-x509', '-config', at('cnf'), ...key, ...signer],
      ...['-keyout', at('key'), '-out', at('crt')],
    ]);
    return { certificate: at('crt'), key: at('key') };
  }
}

function openssl(args: readonly string[]): void {
  const { status, stderr, error } = spawnSync('openssl', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`openssl ${args[0]}: ${error?.message ?? stderr}`);
}

export interface Etcd {
  readonly daemon: Daemon;
  readonly url: string;
}

/** Starts etcd on loopback; its data is in `folder`/etcd. Resolves when it answers. */
export async function startEtcd(folder: string): Promise<Etcd> {
  const url = `http://127.0.0.1:${await freePort()}`;
  const peers = `http://127.0.0.1:${await freePort()}`;
  const beside = join(process.env.KUBEBUILDER_ASSETS ?? '', 'etcd');
  const daemon = startDaemon(folder, 'etcd', executable(beside) ? beside : 'etcd', [
    `--data-dir=${join(folder, 'etcd')}`,
    '--name=test',
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    `--listen-peer-urls=${peers}`,
    `--initial-advertise-peer-urls=${peers}`,
    `--initial-cluster=test=${peers}`,
    // a busy machine makes it miss its own heartbeats, and then it looks for another leader
    '--heartbeat-interval=500',
    '--election-timeout=5000',
    '--log-level=warn',
  ]);
  await until(() => answers(`${url}/health`), [daemon]);
  return { daemon, url };
}

/** Makes etcd forget all versions but the present ones: who watches from an earlier one is told 410 Gone. */
export async function compact({ url }: Etcd): Promise<void> {
  const post = async (path: string, body: unknown) => {
    const response = await fetch(`${url}${path}`, { method: 'POST', body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`etcd ${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { header: { revision: string } };
  };
  const key = Buffer.from('a').toString('base64');
  const { header } = await post('/v3/kv/range', { key });
  await post('/v3/kv/compaction', { revision: header.revision, physical: true });
}

export interface ApiServerOptions {
  /** With Kubernetes' programs. */
  readonly programs: string;
  /** Where its log goes. */
  readonly folder: string;
  readonly etcd: Etcd;
  /** Its certificate, and of whom it believes certificates. */
  readonly certificate: Certificate;
  readonly ca: Certificate;
  readonly tokens: { readonly privateKey: string; readonly publicKey: string };
  readonly port: number;
  readonly bindAddress?: string;
  /** What the service `kubernetes` leads to; no loopback address is allowed. */
  readonly advertiseAddress?: string;
  /** More flags; of a flag that stands twice, the last counts. */
  readonly flags?: readonly string[];
}

/** The names under which the API server is known, besides those a caller adds. */
export const API_SERVER_NAMES: readonly string[] = [
  'IP:127.0.0.1',
  'IP:10.96.0.1',
  'DNS:localhost',
  'DNS:kubernetes',
  'DNS:kubernetes.default',
  'DNS:kubernetes.default.svc',
];

/** Starts kube-apiserver, with RBAC. It is not ready yet: wait for `/readyz`. */
export function startApiServer(options: ApiServerOptions): Daemon {
  const { programs, folder, etcd, certificate, ca, tokens, port } = options;
  return startDaemon(folder, 'kube-apiserver', join(programs, 'kube-apiserver'), [
    `--etcd-servers=${etcd.url}`,
    `--bind-address=${options.bindAddress ?? '127.0.0.1'}`,
    `--advertise-address=${options.advertiseAddress ?? '192.0.2.1'}`,
    `--secure-port=${port}`,
    `--tls-cert-file=${certificate.certificate}`,
    `--tls-private-key-file=${certificate.key}`,
    `--client-ca-file=${ca.certificate}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${tokens.publicKey}`,
    `--service-account-signing-key-file=${tokens.privateKey}`,
    '--service-cluster-ip-range=10.96.0.0/16',
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--allow-privileged=true',
    '--profiling=false',
    ...(options.flags ?? []),
  ]);
}

/** Whether a GET of the address succeeds; `as` is who asks. */
export function answers(url: string, ca?: Certificate, as?: Certificate): Promise<boolean> {
  return new Promise((resolve) => {
    const tls = {
      ca: ca && readFileSync(ca.certificate),
      cert: as && readFileSync(as.certificate),
      key: as && readFileSync(as.key),
      timeout: 5000,
      agent: false,
    };
    const request = url.startsWith('https:') ? get(url, tls) : httpGet(url);
    request.on('response', (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
  });
}

export interface ControlPlaneOptions {
  readonly programs: string;
  /** More flags for kube-apiserver. */
  readonly flags?: readonly string[];
  /** More names for its certificate: `IP:…`, `DNS:…`. */
  readonly names?: readonly string[];
  readonly bindAddress?: string;
  readonly advertiseAddress?: string;
}

/**
 * etcd and kube-apiserver on loopback. There are no controllers: nothing makes service accounts or collects garbage,
 * and no pod runs. RBAC, admission, custom resources and watches are real.
 */
export class ControlPlane {
  /** Everything of it: certificates, logs, data. Gone after `close`. */
  readonly folder: string;
  readonly pki: Pki;
  /** Where the API server is, for those on this machine. */
  readonly server: string;
  /** Of one who may do everything: a path, and read. */
  readonly kubeconfig: string;
  readonly kube: KubeConfig;
  readonly etcd: Etcd;
  readonly admin: Certificate;
  readonly apiServer: ApiServerOptions;
  #apiServer: Daemon | undefined;

  private constructor(folder: string, pki: Pki, etcd: Etcd, apiServer: ApiServerOptions) {
    this.folder = folder;
    this.pki = pki;
    this.etcd = etcd;
    this.apiServer = apiServer;
    this.server = `https://127.0.0.1:${apiServer.port}`;
    this.admin = pki.client('admin', { O: 'system:masters', CN: 'admin' });
    this.kubeconfig = pki.kubeconfig('admin.kubeconfig', this.server, this.admin);
    this.kube = new KubeConfig();
    this.kube.loadFromFile(this.kubeconfig);
  }

  /** Resolves when the API server is ready: after some 6 s. */
  static async start(options: ControlPlaneOptions): Promise<ControlPlane> {
    const folder = mkdtempSync(join(tmpdir(), 'belay-control-plane.'));
    let etcd: Etcd | undefined;
    let plane: ControlPlane | undefined;
    try {
      const pki = new Pki(join(folder, 'pki'));
      etcd = await startEtcd(folder);
      const { names = [], ...rest } = options;
      const certificate = pki.server('apiserver', { CN: 'kube-apiserver' }, [...API_SERVER_NAMES, ...names]);
      const port = await freePort();
      const { ca } = pki;
      plane = new ControlPlane(folder, pki, etcd, {
        ...{ ...rest, folder, etcd, certificate, ca, tokens: pki.tokens(), port },
      });
      await plane.startApiServer();
      return plane;
    } catch (error) {
      await plane?.stopApiServer();
      await etcd?.daemon.stop();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** After `stopApiServer`: the same address, the same data. Resolves when it is ready. */
  async startApiServer(flags = this.apiServer.flags): Promise<void> {
    this.#apiServer = startApiServer({ ...this.apiServer, flags });
    const has = (path: string) => answers(`${this.server}${path}`, this.pki.ca, this.admin);
    await until(
      // it makes this namespace only when it is ready
      async () => (await has('/readyz')) && (await has('/api/v1/namespaces/default')),
      [this.#apiServer, this.etcd.daemon],
    );
  }

  async stopApiServer(): Promise<void> {
    await this.#apiServer?.stop();
  }

  /** Stops everything and takes it away. */
  async close(): Promise<void> {
    await this.stopApiServer();
    await this.etcd.daemon.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
