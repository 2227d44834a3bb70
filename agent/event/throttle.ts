import type { AlertRecord } from './record.js';

export interface ThrottleLimits {
  /** As many of one container's are told of within a second; an alert that stands for repeats is as many as those. */
  readonly alertsPerSecond: number;
  /** For how long they are only counted once there have been more. */
  readonly seconds: number;
}

/** What becomes of an alert: it is told of, or counted, `first` being the first of those that are. */
export type Fate = 'told' | 'first' | 'counted';

/** Alerts of one container that were counted. */
export interface Withheld {
  readonly first: AlertRecord;
  readonly count: bigint;
}

interface Container {
  /** When its second began. */
  readonly since: number;
  alerts: number;
  window?: { readonly first: AlertRecord; readonly until: number; count: bigint };
}

const SECOND_MS = 1000;

/** Holds each container to so many alerts in a second, and counts what there is beyond. Verdicts have no part in this. */
export class Throttle {
  /** Undefined = every alert is told of. */
  limits: ThrottleLimits | undefined;
  readonly #now: () => number;
  readonly #containers = new Map<string, Container>();

  /** @param now milliseconds of a clock that never goes back */
  constructor(limits?: ThrottleLimits, now = () => performance.now()) {
    this.limits = limits;
    this.#now = now;
  }

  take(alert: AlertRecord): Fate {
    const { limits } = this;
    if (limits === undefined && this.#containers.size === 0) return 'told';
    const who = `${alert.namespace}/${alert.pod}/${alert.container}`;
    const known = this.#containers.get(who);
    if (known?.window !== undefined) {
      // also when its time is over: it ends when its number is told
      known.window.count += BigInt(alert.count);
      return 'counted';
    }
    if (limits === undefined) return 'told';
    const now = this.#now();
    const container =
      known !== undefined && now - known.since < SECOND_MS ? known : { since: now, alerts: 0 };
    this.#containers.set(who, container);
    container.alerts += Number(alert.count);
    if (container.alerts <= limits.alertsPerSecond) return 'told';
    const until = now + limits.seconds * SECOND_MS;
    container.window = { first: alert, until, count: BigInt(alert.count) };
    return 'first';
  }

  /**
   * Whose alerts are told of again from now on.
   * @param all of all, however long they still had
   */
  ended(all = false): readonly Withheld[] {
    const now = this.#now();
    const ended: Withheld[] = [];
    for (const [who, { since, window }] of this.#containers) {
      if (window === undefined ? now - since < SECOND_MS : !all && this.limits && now < window.until)
        continue;
      this.#containers.delete(who);
      if (window !== undefined) ended.push(window);
    }
    return ended;
  }
}
