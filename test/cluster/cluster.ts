import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CoreV1Api,
  Exec,
  KubeConfig,
  type V1ContainerStatus,
  type V1Pod,
  type V1PodSpec,
  type V1Status,
} from '@kubernetes/client-node';
import {
  API_SERVER_NAMES,
  answers,
  type Certificate,
  type Daemon,
  type Etcd,
  freePort,
  kubernetesPrograms,
  Pki,
  startApiServer,
  startDaemon,
  startEtcd,
  until,
} from '../api/control-plane.js';
import { PROJECT, quote } from '../kernel/harness.js';
import { Agent } from './agent.js';
import { Machine } from './machine.js';

/** The node, as the guest and the API server know it. The API server finds its kubelet by a port of this host. */
export const NODE = 'localhost';
const GUEST = '10.0.2.15';
/** Where the guest finds the API server. */
const API = '10.0.2.100';

const PROGRAMS = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kubectl'];

/** Whether a cluster can be started here; says so loudly if not. */
export const clusterPrograms = () => kubernetesPrograms('tests on a real cluster', PROGRAMS);

export interface ClusterOptions {
  /** 6.1, 6.12 or latest; otherwise what BELAY_CLUSTER_KERNEL says. */
  readonly kernel?: string;
  /** Of the node, in MiB. */
  readonly memory?: number;
  /** Archives of images besides those of test/cluster/images. */
  readonly images?: readonly string[];
  /** More flags for kube-apiserver. */
  readonly apiServerFlags?: readonly string[];
}

export interface PodOptions {
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly image?: string;
  /** Of the one container, which is called `main`; sleeps by default. */
  readonly command?: readonly string[];
  /** Laid over the rest of the specification. */
  readonly spec?: Partial<V1PodSpec>;
}

export interface ExecOptions {
  readonly namespace?: string;
  readonly container?: string;
  readonly tty?: boolean;
}

/** Undefined if it did not exit: the command could not be started. */
export interface ExecResult {
  readonly status: number | undefined;
  /** Both streams. */
  readonly output: string;
  /** What the runtime says when it could not be started. */
  readonly error: string;
}

/**
 * A real cluster of one node. etcd, the API server, the controllers and the scheduler are processes of this host, on
 * loopback; containerd, runc and kubelet are in a virtual machine, where the pods run and the agent does.
 */
export class Cluster {
  readonly machine: Machine;
  /** Of one who may do everything: for this host, and for the guest. */
  readonly kubeconfig: string;
  readonly guestKubeconfig = '/results/node/admin.kubeconfig';
  readonly kube = new KubeConfig();
  readonly core: CoreV1Api;
  readonly agent: Agent;
  readonly #programs: string;
  readonly #folder: string;
  readonly #daemons: Daemon[];
  readonly #startApi: () => Promise<Daemon>;
  readonly #exec: Exec;

  private constructor(
    programs: string,
    folder: string,
    kubeconfig: string,
    machine: Machine,
    daemons: Daemon[],
    startApi: () => Promise<Daemon>,
  ) {
    this.#programs = programs;
    this.#folder = folder;
    this.#daemons = daemons;
    this.#startApi = startApi;
    this.machine = machine;
    this.kubeconfig = kubeconfig;
    this.kube.loadFromFile(kubeconfig);
    this.core = this.kube.makeApiClient(CoreV1Api);
    this.#exec = new Exec(this.kube);
    this.agent = new Agent(machine, NODE, this.guestKubeconfig);
  }

  /** Resolves when the node is ready and pods can be made: after some 25 s. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const programs = clusterPrograms();
    if (programs === undefined) throw new Error('no programs for a cluster: ask clusterPrograms first');
    const folder = mkdtempSync(join(tmpdir(), 'belay-cluster.'));
    const daemons: Daemon[] = [];
    let machine: Promise<Machine> | undefined;
    try {
      const pki = new Pki(join(folder, 'pki'));
      const [apiPort, kubeletPort] = [await freePort(), await freePort()];
      const admin = pki.client('admin', { O: 'system:masters', CN: 'admin' });
      const server = `https://127.0.0.1:${apiPort}`;
      const kubeconfig = pki.kubeconfig('admin.kubeconfig', server, admin);
      machine = startNode({ options, programs, pki, admin, apiPort, kubeletPort });
      // awaited below; until then its failure must not end the process
      machine.catch(() => {});
      const etcd = await startEtcd(folder);
      daemons.push(etcd.daemon);
      const startApi = async () => {
        const daemon = apiServer({ options, programs, folder, pki, admin, apiPort, etcd });
        await until(() => answers(`${server}/readyz`, pki.ca, admin), [etcd.daemon, daemon]);
        return daemon;
      };
      daemons.push(await startApi());
      daemons.push(...managers(programs, folder, pki, kubeconfig));
      const cluster = new Cluster(programs, folder, kubeconfig, await machine, daemons, startApi);
      await cluster.#ready();
      return cluster;
    } catch (error) {
      await machine?.then((started) => started.stop()).catch(() => {});
      for (const daemon of daemons) await daemon.stop();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  async #ready(): Promise<void> {
    try {
      await until(
        async () => {
          const { status } = await this.core.readNode({ name: NODE });
          await this.core.readNamespacedServiceAccount({ namespace: 'default', name: 'default' });
          return (
            status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true
          );
        },
        this.#daemons,
        300,
      );
    } catch (error) {
      throw new Error(`the node is not ready: ${error}\nkubelet:\n${this.machine.log('kubelet')}`);
    }
  }

  /** Kills the API server, and starts another when `meanwhile` is over. */
  async withoutApi(meanwhile: () => Promise<void>): Promise<void> {
    const at = this.#daemons.findIndex(({ name }) => name === 'kube-apiserver');
    await this.#daemons[at].stop();
    try {
      await meanwhile();
    } finally {
      this.#daemons[at] = await this.#startApi();
    }
  }

  /** Runs kubectl on this host. @returns what it says; throws if it fails */
  kubectl(args: readonly string[], input = ''): string {
    const { status, stdout, stderr, error } = spawnSync(
      join(this.#programs, 'kubectl'),
      ['--kubeconfig', this.kubeconfig, '--cache-dir', join(this.#folder, 'kubectl'), ...args],
      { encoding: 'utf8', input },
    );
    if (status !== 0) throw new Error(`kubectl ${args.join(' ')}: ${error?.message ?? stderr}`);
    return stdout;
  }

  /** Makes or changes everything that the YAML describes. */
  apply(yaml: string): void {
    // this version knows less of definitions than they say, and merges nothing that it does not know
    const definition = yaml.includes('kind: CustomResourceDefinition');
    const merged = definition
      ? ['create', '--validate=false']
      : ['apply', '--server-side', '--force-conflicts'];
    this.kubectl([...merged, '-f', '-'], yaml);
  }

  /** Makes the definitions of Belay's kinds, and waits until they are served. */
  install(): void {
    const crds = join(PROJECT, 'deploy/crds');
    this.kubectl(['apply', '--validate=false', '-f', crds]);
    this.kubectl(['wait', '--for=condition=Established', '--timeout=60s', '-f', crds]);
  }

  /** Makes a namespace in which pods can be made. */
  async namespace(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.core.createNamespace({ body: { metadata: { name, labels } } });
    await until(async () => {
      await this.core.readNamespacedServiceAccount({ namespace: name, name: 'default' });
      return true;
    });
  }

  /** Makes a pod, and does not wait for it. */
  create(name: string, options: PodOptions = {}): Promise<V1Pod> {
    const { namespace = 'default', image = 'localhost/busybox:1', spec } = options;
    return this.core.createNamespacedPod({
      namespace,
      body: {
        metadata: { name, labels: { ...options.labels }, annotations: { ...options.annotations } },
        spec: {
          containers: [
            {
              name: 'main',
              image,
              imagePullPolicy: 'Never',
              command: [...(options.command ?? ['sleep', '100000'])],
            },
          ],
          restartPolicy: 'Never',
          terminationGracePeriodSeconds: 1,
          automountServiceAccountToken: false,
          ...spec,
        },
      },
    });
  }

  /** Makes a pod and waits until all of its containers run. */
  async pod(name: string, options: PodOptions = {}): Promise<V1Pod> {
    await this.create(name, options);
    return this.when(
      name,
      options.namespace,
      'runs',
      ({ status }) =>
        status?.phase === 'Running' &&
        status.containerStatuses?.every(({ state }) => state?.running !== undefined),
    );
  }

  /** Waits until a pod's containers have ended, or cannot be started. @returns how, by container */
  async ended(name: string, namespace?: string): Promise<ReadonlyMap<string, V1ContainerStatus>> {
    const over = ({ state }: V1ContainerStatus) =>
      state?.terminated !== undefined || state?.waiting?.reason === 'CreateContainerError';
    const ends = ({ status }: V1Pod) => status?.containerStatuses?.every(over);
    const pod = await this.when(name, namespace, 'ends', ends, 900);
    return new Map(pod.status?.containerStatuses?.map((status) => [status.name, status]));
  }

  /** Waits until something holds of a pod; `what` says it in an error. */
  async when(
    name: string,
    namespace: string | undefined,
    what: string,
    holds: (pod: V1Pod) => boolean | undefined,
    seconds = 300,
  ): Promise<V1Pod> {
    const end = performance.now() + seconds * 1000;
    for (;;) {
      const pod = await this.core.readNamespacedPod({ namespace: namespace ?? 'default', name });
      if (holds(pod)) return pod;
      if (performance.now() > end)
        throw new Error(
          `pod ${name} ${what}: not within ${seconds} s: ${JSON.stringify(pod.status, null, 1)}`,
        );
      await sleep(300);
    }
  }

  /** Deletes a pod, and waits until nothing is left of it on the node. */
  async remove(name: string, namespace = 'default'): Promise<void> {
    await this.core.deleteNamespacedPod({ namespace, name });
    await until(async () => {
      try {
        await this.core.readNamespacedPod({ namespace, name });
        return false;
      } catch (error) {
        return (error as { code?: number }).code === 404;
      }
    });
  }

  /** Runs a command in a container, as `kubectl exec` does; with `tty`, on a terminal. */
  async exec(pod: string, command: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { namespace = 'default', container = '', tty = false } = options;
    let output = '';
    const take = () =>
      new Writable({
        write(chunk, _, done) {
          output += chunk;
          done();
        },
      });
    // a terminal that stays open and on which nobody types
    const stdin = tty ? new PassThrough() : null;
    const end = await new Promise<V1Status | undefined>((resolve, reject) => {
      this.#exec
        .exec(namespace, pod, container, [...command], take(), tty ? null : take(), stdin, tty, resolve)
        .then((socket) => {
          // the status comes first, if one comes at all
          socket.on('close', () => resolve(undefined));
          socket.on('error', reject);
        }, reject);
    });
    const exit = end?.details?.causes?.find(({ reason }) => reason === 'ExitCode')?.message;
    const status = end?.status === 'Success' ? 0 : exit === undefined ? undefined : Number(exit);
    return { status, output, error: end?.message ?? '' };
  }

  /** Puts an ephemeral container into a running pod, and waits until it runs or has ended. */
  async debug(
    pod: string,
    name: string,
    image: string,
    command: readonly string[],
    namespace = 'default',
  ): Promise<V1Pod> {
    const container = { name, image, command, imagePullPolicy: 'Never', terminationMessagePolicy: 'File' };
    const path = `/api/v1/namespaces/${namespace}/pods/${pod}/ephemeralcontainers`;
    // a kind of its own in this version, which today's clients do not know
    const body = JSON.parse(this.kubectl(['get', '--raw', path]));
    body.ephemeralContainers = [...(body.ephemeralContainers ?? []), container];
    this.kubectl(['replace', '--raw', path, '-f', '-'], JSON.stringify(body));
    return this.when(pod, namespace, `has ${name}`, ({ status }) =>
      status?.ephemeralContainerStatuses?.some(
        (s) => s.name === name && (s.state?.running ?? s.state?.terminated) !== undefined,
      ),
    );
  }

  /** Runs a bash script on the node, as root, in the project's folder. @returns what it says; throws if it fails */
  async guest(script: string): Promise<string> {
    const { status, output } = await this.machine.run(script);
    if (status !== 0) throw new Error(`the guest's command ended with ${status}: ${script}\n${output}`);
    return output.trim();
  }

  async stop(): Promise<void> {
    await this.machine.stop();
    for (const daemon of [...this.#daemons].reverse()) await daemon.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

interface Parts {
  readonly options: ClusterOptions;
  readonly programs: string;
  readonly pki: Pki;
  readonly admin: Certificate;
  readonly apiPort: number;
}

/** The machine can reach the API server and nothing else; this host can reach its kubelet. */
function startNode(parts: Parts & { readonly kubeletPort: number }): Promise<Machine> {
  const { options, programs, pki, admin, apiPort, kubeletPort } = parts;
  const made = spawnSync(join(PROJECT, 'test/cluster/images'), { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`no images: ${made.stderr}`);
  const images = [...made.stdout.trim().split('\n'), ...(options.images ?? [])];
  const kubelet = pki.server('kubelet', { O: 'system:nodes', CN: `system:node:${NODE}` }, [
    `DNS:${NODE}`,
    `IP:${GUEST}`,
    'IP:127.0.0.1',
  ]);
  const server = `https://${API}:${apiPort}`;
  const settings = {
    name: NODE,
    address: GUEST,
    kubelet_port: kubeletPort,
    api_address: API,
    api_port: apiPort,
    programs,
    images: images.join('\n'),
  };
  const network = [
    'user,restrict=on,net=10.0.2.0/24',
    `hostfwd=tcp:127.0.0.1:${kubeletPort}-${GUEST}:${kubeletPort}`,
    `guestfwd=tcp:${API}:${apiPort}-cmd:busybox nc 127.0.0.1 ${apiPort}`,
  ];
  const kernel = options.kernel ?? process.env.BELAY_CLUSTER_KERNEL ?? '6.1';
  return Machine.start(
    {
      ...{ kernel, memory: options.memory ?? 3072 },
      ...{ network: network.join(','), program: join(PROJECT, 'test/cluster/node') },
    },
    (results) => {
      const at = (name: string) => join(results, 'node', name);
      mkdirSync(at(''));
      copyFileSync(pki.ca.certificate, at('ca.crt'));
      copyFileSync(kubelet.certificate, at('kubelet.crt'));
      copyFileSync(kubelet.key, at('kubelet.key'));
      copyFileSync(pki.kubeconfig('kubelet.kubeconfig', server, kubelet), at('kubelet.kubeconfig'));
      copyFileSync(pki.kubeconfig('guest.kubeconfig', server, admin), at('admin.kubeconfig'));
      const lines = Object.entries(settings).map(([name, value]) => `${name}=${quote(String(value))}\n`);
      writeFileSync(at('settings'), lines.join(''));
    },
  );
}

function apiServer(parts: Parts & { readonly folder: string; readonly etcd: Etcd }): Daemon {
  const { options, programs, folder, pki, admin, apiPort, etcd } = parts;
  return startApiServer({
    ...{ programs, folder, etcd, ca: pki.ca, tokens: pki.tokens(), port: apiPort },
    certificate: pki.server('apiserver', { CN: 'kube-apiserver' }, [...API_SERVER_NAMES, `IP:${API}`]),
    advertiseAddress: API,
    flags: [
      `--kubelet-client-certificate=${admin.certificate}`,
      `--kubelet-client-key=${admin.key}`,
      `--kubelet-certificate-authority=${pki.ca.certificate}`,
      '--kubelet-preferred-address-types=Hostname',
      '--feature-gates=EphemeralContainers=true',
      ...(options.apiServerFlags ?? []),
    ],
  });
}

/** Service accounts, garbage collection and the like; and the scheduler. */
function managers(programs: string, folder: string, pki: Pki, kubeconfig: string): Daemon[] {
  const start = (name: string, flags: readonly string[]) =>
    startDaemon(folder, name, join(programs, name), [
      ...[
        `--kubeconfig=${kubeconfig}`,
        '--leader-elect=false',
        '--port=0',
        '--secure-port=0',
        '--profiling=false',
      ],
      ...flags,
    ]);
  return [
    start('kube-controller-manager', [
      `--service-account-private-key-file=${join(pki.folder, 'sa.key')}`,
      `--root-ca-file=${pki.ca.certificate}`,
      // the node is slow, not gone
      '--node-monitor-grace-period=300s',
    ]),
    start('kube-scheduler', []),
  ];
}
