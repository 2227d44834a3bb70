import type {
  ACTIONS,
  ESCAPES,
  MODES,
  PRESET_ACTIONS,
  PRESETS,
  PROTOCOLS,
  TRANSPORTS,
} from './schema/words.js';

/**
 * What a policy says, once it has been read and found valid: the one form that the parser produces and
 * that the compiler and the tests' reference interpreter consume. Everything inherited (severity, tags, message,
 * action) has been filled in, so a rule can be read by itself.
 */

/** Where in a source text something stands; lines and columns count from 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export type Action = (typeof ACTIONS)[number];

/** The classes that are allow-listed or deny-listed as a whole. */
export type RuleClass = 'process' | 'file' | 'network' | 'capabilities';

/** How a rule names files (or the programs of its sources). */
export type Matcher =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'execname'; readonly name: string }
  /** `pattern`: `*` within a component, `**` across, `?`, `[a-z]`, `{a,b}`. */
  | { readonly kind: 'pattern'; readonly pattern: string }
  /** `dir` ends in a slash; not recursive = direct children only. */
  | { readonly kind: 'directory'; readonly dir: string; readonly recursive: boolean };

interface RuleBase {
  /** Where it stands in the policy, e.g. `process.matchPaths[2]`; unique within the policy. */
  readonly id: string;
  readonly at: Position;
  readonly action: Action;
  readonly severity: number;
  readonly tags: readonly string[];
  readonly message: string;
  /** Empty = whatever program acts. Otherwise one of these must name it. */
  readonly sources: readonly Matcher[];
}

/** A rule of `process` or `file` that names files. */
export interface NameRule extends RuleBase {
  readonly class: 'process' | 'file';
  readonly match: Matcher;
  readonly ownerOnly: boolean;
  /** Always false in `process`. */
  readonly readOnly: boolean;
  /** `pts: false` was written: with a controlling terminal it is denied. */
  readonly noTty: boolean;
  /** Undefined = any arguments; otherwise every argument after the first must be one of these. Process only. */
  readonly allowedArgs?: readonly string[];
}

export type ProtocolName = (typeof PROTOCOLS)[number];

export interface ProtocolRule extends RuleBase {
  readonly class: 'network';
  readonly kind: 'protocol';
  readonly protocol: ProtocolName;
}

/** An address block: `bytes` has 4 or 16 bytes, host bits are zero. IPv4-mapped IPv6 has been folded to 4 bytes. */
export interface Cidr {
  readonly bytes: readonly number[];
  readonly prefix: number;
}

export interface PortRange {
  /** IP protocol; undefined = TCP, UDP and SCTP alike (and every other). */
  readonly protocol?: (typeof TRANSPORTS)[number];
  /** Inclusive; 0-65535 when the policy names none. */
  readonly from: number;
  readonly to: number;
}

export interface AddressRule extends RuleBase {
  readonly class: 'network';
  readonly kind: 'address';
  readonly direction: 'egress' | 'ingress';
  /** Any of these; empty = every address, IPv4 and IPv6. */
  readonly peers: readonly { readonly cidr: Cidr; readonly except: readonly Cidr[] }[];
  /** Any of these; empty = every protocol and port. */
  readonly ports: readonly PortRange[];
}

export interface DomainRule extends RuleBase {
  readonly class: 'network';
  readonly kind: 'dns';
  /** Never Kill: a packet is denied, and who sent it may be gone. */
  readonly action: Exclude<Action, 'Kill' | 'KillContainer'>;
  /** In lower case, without a dot at its end. */
  readonly domain: string;
  /** Only the names below it, not the domain itself. */
  readonly below: boolean;
}

export interface CapabilityRule extends RuleBase {
  readonly class: 'capabilities';
  /** The kernel's number of it. */
  readonly capability: number;
  readonly name: string;
}

/** System calls that are reported, never denied. */
export interface SyscallRule extends RuleBase {
  readonly class: 'syscalls';
  readonly action: 'Audit';
  /** At least one. */
  readonly syscalls: readonly string[];
  /** Only those about a file of this name; undefined = whatever they are about. */
  readonly match?: Matcher;
}

/** Denied where an enforced rule says so; Allow is an exception, and makes no allow-list. */
export interface EscapeRule extends RuleBase {
  readonly class: 'escape';
  readonly operation: (typeof ESCAPES)[number];
}

/** `drift` is written in `process`, not among the presets. */
export type PresetName = (typeof PRESETS)[number] | 'drift';

export interface PresetRule extends Omit<RuleBase, 'sources'> {
  readonly class: 'preset';
  readonly preset: PresetName;
  readonly action: (typeof PRESET_ACTIONS)[number];
}

export type Rule =
  | NameRule
  | ProtocolRule
  | AddressRule
  | DomainRule
  | CapabilityRule
  | EscapeRule
  | SyscallRule
  | PresetRule;

export type LabelRequirement =
  | { readonly key: string; readonly operator: 'In' | 'NotIn'; readonly values: readonly string[] }
  | { readonly key: string; readonly operator: 'Exists' | 'DoesNotExist' };

/** Which workloads a policy reaches; all parts must hold. */
export interface Selector {
  readonly labels: ReadonlyMap<string, string>;
  readonly expressions: readonly LabelRequirement[];
  /** Cluster kinds: requirements on the namespace's name (`key: namespace`). */
  readonly namespaces: readonly { readonly operator: 'In' | 'NotIn'; readonly values: readonly string[] }[];
  /** Globs on container names; empty = all. */
  readonly containers: readonly string[];
}

export type PolicyKind =
  | 'WorkloadPolicy'
  | 'ClusterWorkloadPolicy'
  | 'HostPolicy'
  | 'KubeArmorPolicy'
  | 'KubeArmorClusterPolicy'
  | 'KubeArmorHostPolicy';

export type PolicyScope = 'namespace' | 'cluster' | 'host';

export interface Policy {
  readonly apiVersion: string;
  readonly kind: PolicyKind;
  readonly scope: PolicyScope;
  /** Empty for cluster and host scope. */
  readonly namespace: string;
  readonly name: string;
  readonly at: Position;
  /** Audit: a dry run, verdicts are reported and not applied. */
  readonly mode: (typeof MODES)[number];
  readonly selector: Selector;
  readonly rules: readonly Rule[];
}

export type Posture = 'audit' | 'block';

/** The default for what no rule of an allow-listed class matches; process uses `file`. */
export interface Postures {
  readonly file: Posture;
  readonly network: Posture;
  readonly capabilities: Posture;
}

/** A fault or a doubt about a source text, told to the person who wrote it. */
export interface Diagnostic {
  readonly at: Position;
  readonly severity: 'error' | 'warning';
  /** What is wrong, and what to do, in one sentence each. */
  readonly message: string;
}
