import type { AlertRecord } from '../../agent/event/record.js';

/*
 * What KubeArmor's users rely on, as data: policies, what is run where, what it says, and what the alerts say. The
 * policies are of KubeArmor's own kinds, so that a team that switches agents need not touch them.
 */

/** Something that is run in a container, and what comes of it. */
export interface Step {
  /** A container. */
  readonly in: string;
  /** For bash. */
  readonly run: string;
  /** On a terminal. */
  readonly tty?: boolean;
  /** `denied` says "Permission denied"; `passes` does not, and ends well. */
  readonly outcome: 'denied' | 'passes' | RegExp;
}

/** What is to be found in an alert. */
export interface ExpectedAlert {
  /** Of what no policy decided, the posture's name, as KubeArmor has it. */
  readonly policy: string;
  readonly severity?: number;
  readonly message?: string;
  readonly action?: string;
  readonly verdict?: 'Denied' | 'Passed' | 'Killed';
  readonly pod?: string;
  readonly container?: string;
  /** Of the object: a path, a capability, a domain, a system call, a socket and its protocol. */
  readonly resource?: string | RegExp;
}

export interface Case {
  readonly name: string;
  /** Documents of YAML. */
  readonly policies: readonly string[];
  readonly steps: readonly Step[];
  readonly alerts?: readonly ExpectedAlert[];
  /** No alert like these may come. */
  readonly silent?: readonly Partial<ExpectedAlert>[];
}

/** Where the policies are, and the containers but for those that cluster policies are tried on. */
export const NAMESPACE = 'multiubuntu';
export const POSTURE = 'DefaultPosture';
export const TOKENS = '/run/secrets/kubernetes.io/serviceaccount';

export const denied = (where: string, run: string, tty = false): Step => ({
  in: where,
  run,
  tty,
  outcome: 'denied',
});
export const passes = (where: string, run: string, tty = false): Step => ({
  in: where,
  run,
  tty,
  outcome: 'passes',
});
export const says = (where: string, run: string, outcome: RegExp): Step => ({ in: where, run, outcome });

/** The same command, by the user who owns /home/user1. */
export const user1 = (run: string): string =>
  `setpriv --reuid=1000 --regid=1000 --clear-groups -- bash -c '${run}'`;

/** A policy of KubeArmor's; `spec` is the inside of a flow mapping. */
export function armor(name: string, spec: string, kind = 'KubeArmorPolicy', namespace = NAMESPACE): string {
  const metadata = kind === 'KubeArmorPolicy' ? `name: ${name}, namespace: ${namespace}` : `name: ${name}`;
  return `apiVersion: security.kubearmor.com/v1\nkind: ${kind}\nmetadata: {${metadata}}\nspec: {${spec}}\n`;
}

/** KubeArmor's PolicyName. */
const policyName = ({ policy, rule }: AlertRecord) => policy || rule;
const resource = ({ object }: AlertRecord) =>
  object.path ??
  object.capability ??
  object.domain ??
  object.syscall ??
  `${object.socket} ${object.protocol}`;

export function matches(alert: AlertRecord, wanted: Partial<ExpectedAlert>): boolean {
  const { policy, resource: object, ...rest } = wanted;
  if (policy !== undefined && policyName(alert) !== policy) return false;
  if (typeof object === 'string' && resource(alert) !== object) return false;
  if (object instanceof RegExp && !object.test(resource(alert))) return false;
  return Object.entries(rest).every(([name, value]) => alert[name as keyof typeof rest] === value);
}
