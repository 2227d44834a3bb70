import type { AddressRule, Matcher, ProtocolName } from './model.js';

/**
 * Specificity as one u32, larger wins: bit 31 the dry run (in audit chains only), bit 30 a matching source, then
 * the kind, then within a kind the length. 0 is the posture's.
 */
export const TRIAL_RANK = 0x80000000;
const SOURCE_RANK = 0x40000000;
const KIND_RANK = { path: 4 << 24, execname: 3 << 24, pattern: 2 << 24, directory: 1 << 24 } as const;
const BASE_RANK = 1 << 24;

/** The two rules for files without a name; the preset says more than the class. */
export const UNNAMED_RANK = 1;
export const FILELESS_RANK = 2;

/** @param prefix bytes of a pattern's literal prefix; elsewhere unused */
export function nameRank(matcher: Matcher, prefix: number, sourced: boolean): number {
  const source = sourced ? SOURCE_RANK : 0;
  switch (matcher.kind) {
    case 'path':
    case 'execname':
      return source | KIND_RANK[matcher.kind];
    case 'pattern':
      return source | KIND_RANK.pattern | prefix;
    case 'directory':
      return source | KIND_RANK.directory | matcher.dir.split('/').filter((part) => part !== '').length;
  }
}

/** @param prefix bits of the block that the address lies in, 0 for a rule without peers */
export function addressRank(rule: AddressRule, prefix: number): number {
  return sourceRank(rule) | BASE_RANK | (prefix << 1) | (rule.ports.length > 0 ? 1 : 0);
}

export function protocolRank(rule: {
  readonly protocol: ProtocolName;
  readonly sources: readonly Matcher[];
}): number {
  return sourceRank(rule) | BASE_RANK | (rule.protocol === 'all' ? 0 : 1);
}

export function domainRank(rule: { readonly domain: string; readonly sources: readonly Matcher[] }): number {
  return sourceRank(rule) | BASE_RANK | rule.domain.split('.').length;
}

export function capabilityRank(rule: { readonly sources: readonly Matcher[] }): number {
  return sourceRank(rule) | BASE_RANK;
}

/** An operation by its name says more than the preset, which is about all of them. */
export const HARDENED_RANK = BASE_RANK;
export function escapeRank(rule: { readonly sources: readonly Matcher[] }): number {
  return sourceRank(rule) | BASE_RANK | 1;
}

export function syscallRank(rule: {
  readonly sources: readonly Matcher[];
  readonly match?: Matcher;
}): number {
  if (rule.match !== undefined) return nameRank(rule.match, 0, rule.sources.length > 0);
  return sourceRank(rule) | BASE_RANK;
}

function sourceRank(rule: { readonly sources: readonly Matcher[] }): number {
  return rule.sources.length > 0 ? SOURCE_RANK : 0;
}
