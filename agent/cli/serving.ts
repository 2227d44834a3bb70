import { release } from 'node:os';
import type { Logger } from 'pino';
import type { KubeArmorSettings } from '../event/kubearmor.js';
import { EventLog } from '../event/log.js';
import type { AlertRecord, BelayRecord } from '../event/record.js';
import type { Redactor } from '../event/redact.js';
import { loadAddon } from '../kernel/addon.js';
import type { Enforcer } from '../kernel/enforcer.js';
import type { Kernel } from '../kernel/kernel.js';
import { ProgramCosts } from '../kernel/program-costs.js';
import type { Authorities } from '../serve/authenticate.js';
import { Health } from '../serve/health.js';
import { serveHttp } from '../serve/http.js';
import { KubeAccess } from '../serve/kube-access.js';
import type { Metrics } from '../serve/metrics.js';
import type { NodeView } from '../serve/node-view.js';
import { serve } from '../serve/server.js';
import type { SinkStats } from '../sink/sink.js';
import type { ClusterFeed } from './cluster.js';
import { NodeState } from './node-state.js';
import type { Settings } from './settings.js';
import { VERSION } from './version.js';
import type { Wanted } from './wanted.js';

export interface ServingOptions {
  readonly settings: Settings;
  /** Of those in force. */
  readonly kubeArmor: () => KubeArmorSettings;
  readonly kernel: Kernel;
  readonly enforcer: Enforcer;
  readonly wanted: Wanted;
  readonly redactor: Redactor;
  readonly sinks: { readonly stats: readonly SinkStats[] };
  readonly log: Logger;
  /** There is none before it has been opened, or outside of a cluster. */
  readonly cluster: () => ClusterFeed | undefined;
}

/** What this agent tells those who ask: events as they come, what is in force, metrics, health. */
export class Serving {
  readonly #options: ServingOptions;
  readonly #events = new EventLog();
  readonly #health: Health;
  readonly #costs: ProgramCosts;
  readonly #state: NodeState;
  /** Where they are served. */
  #metrics: Metrics | undefined;
  readonly #open: { close(): unknown }[] = [];
  #astray = '';

  constructor(options: ServingOptions) {
    this.#options = options;
    const { settings, kernel, enforcer, wanted, redactor, cluster } = options;
    this.#health = new Health({
      detached: () => kernel.detached(),
      rings: () => kernel.ringPositions(),
      astray: () => enforcer.astray(),
    });
    this.#costs = new ProgramCosts(kernel);
    this.#state = new NodeState({
      ...{ settings, kernel, enforcer, wanted, redactor, cluster },
      ...{ health: this.#health, costs: this.#costs },
    });
  }

  record(record: BelayRecord): void {
    this.#events.append(record);
    this.#metrics?.record(record);
  }

  /** An alert that is only counted. */
  withheld(alert: AlertRecord): void {
    this.#metrics?.record(alert);
  }

  /** A change that was told of is in force, after so many seconds. */
  applied(seconds: number): void {
    this.#metrics?.applied(seconds);
  }

  /** Everything that was asked for has been put in force. */
  enforces(): void {
    this.#health.enforces();
  }

  /** The agent has looked after everything. To be called about once a second. */
  looked(): void {
    this.#health.looked();
    this.#costs.look();
    // who they are is not told to everyone who may ask after the agent's health
    const { enforcer, log } = this.#options;
    const astray = enforcer.astray().join(', ');
    if (astray !== '' && astray !== this.#astray)
      log.error({ workloads: astray }, 'the kernel does not use the policies that were put in force');
    this.#astray = astray;
  }

  /**
   * Listens. A unix socket that cannot be had is said and no reason not to enforce; an address is.
   * @throws Error
   */
  async open(): Promise<void> {
    const { settings, kubeArmor, log } = this.#options;
    const [node, events] = [this.#state, this.#events];
    const { metricsAddress, socket, socketGroup, listenAddress } = settings;
    if (metricsAddress) {
      this.#metrics = await this.#measure();
      const health = this.#health;
      this.#open.push(await serveHttp({ address: metricsAddress, metrics: this.#metrics, health }));
    }
    try {
      const group = socketGroup === undefined ? undefined : Number(socketGroup);
      const { peer } = loadAddon();
      this.#open.push(await serve({ node, events, log, kubeArmor, socket: { path: socket, group, peer } }));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      log.error({ socket, why }, 'the unix socket is not served; belay events, top and tree need it');
    }
    if (listenAddress) this.#open.push(await this.#onNetwork(node, listenAddress));
  }

  /** Metrics, and what it takes to count them. */
  async #measure(): Promise<Metrics> {
    const { kernel, enforcer, sinks } = this.#options;
    const { Metrics } = await import('../serve/metrics.js');
    return new Metrics({
      ...{ version: VERSION, kernel: release() },
      present: () => ({
        policies: byState(this.#state.policies()),
        workloads: enforcer.workloads.size,
        policySets: enforcer.sets,
        tableBytes: kernel.tableBytes,
        sinks: sinks.stats,
        watchers: this.#events.readers,
        missed: this.#events.missed,
        maps: kernel.fill(),
        programs: this.#costs.programs,
      }),
    });
  }

  async #onNetwork(node: NodeView, address: string) {
    const { settings, kubeArmor, log, cluster } = this.#options;
    const { tlsCertificate: certificate, tlsKey: key, tlsClientCa: clientCa } = settings;
    const { tokenAudience, oidcIssuer: issuer, oidcAudience: audience } = settings;
    const tls = certificate && key ? { certificate, key, clientCa } : undefined;
    const api = cluster()?.api;
    let authorities: Omit<Authorities, 'certificates'> = {};
    if (api !== undefined) {
      const kube = new KubeAccess(api, tokenAudience);
      authorities = { users: kube, ...(tokenAudience && { tokens: kube }) };
    }
    if (issuer && audience) {
      // only who has such an issuer pays for what it takes
      const { Oidc } = await import('../serve/oidc.js');
      authorities = { ...authorities, oidc: { issuer, tokens: new Oidc({ issuer, audience }) } };
    }
    return serve({ node, events: this.#events, log, kubeArmor, network: { address, tls, authorities } });
  }

  async close(): Promise<void> {
    this.#costs.close();
    for (const each of this.#open.splice(0)) await each.close();
  }
}

function byState(policies: readonly { readonly state: string }[]): Record<string, number> {
  const counts: Record<string, number> = { in_force: 0, rejected: 0, unfit: 0 };
  for (const { state } of policies) counts[state]++;
  return counts;
}
