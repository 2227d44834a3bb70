import { KubeConfig } from '@kubernetes/client-node';
import { pino } from 'pino';
import { KubeApi } from '../../agent/control/api.js';
import type { Timing } from '../../agent/control/list-watch.js';
import type { ControlPlane } from './control-plane.js';

/** Waits that suit tests. */
export const QUICK: Partial<Timing> = { firstWait: 100, longestWait: 500 };

/** The lines of a log as they were written, and the log. */
export function recordedLog() {
  const lines: { level: number; msg: string; [key: string]: unknown }[] = [];
  const log = pino({ level: 'info', base: null }, { write: (line: string) => lines.push(JSON.parse(line)) });
  return { log, lines };
}

/** As the control plane's admin, perhaps by way of another address. */
export function apiOf(plane: ControlPlane, { log } = recordedLog(), server = plane.server): KubeApi {
  const kube = new KubeConfig();
  kube.loadFromOptions({
    clusters: plane.kube.clusters.map((cluster) => ({ ...cluster, server })),
    users: plane.kube.users,
    contexts: plane.kube.contexts,
    currentContext: plane.kube.currentContext,
  });
  return new KubeApi(kube, log);
}

/** Waits until what `look` gives equals `true`, or fails with what it gave last. */
export async function eventually<T>(look: () => T | Promise<T>, holds: (seen: T) => boolean, seconds = 20) {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const seen = await look();
    if (holds(seen)) return seen;
    if (performance.now() > end) throw new Error(`still, after ${seconds} s: ${JSON.stringify(seen)}`);
    await pause(20);
  }
}

export const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export const MERGE = 'application/merge-patch+json';
