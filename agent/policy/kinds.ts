import { cast, condense, noBallots } from './ballots.js';
import type { Votes } from './decide.js';
import { type Bounds, type Dfa, determinise } from './dfa.js';
import { enums } from './layout.js';
import type { ProtocolName } from './model.js';
import { Nfa } from './nfa.js';
import type { NumberedRule } from './rules.js';

const S = enums.socket_kind;

/** Sockets that network rules reach only by name: local to the machine. */
const LOCAL: readonly number[] = [
  S.SOCKET_UNIX_STREAM,
  S.SOCKET_UNIX_DGRAM,
  S.SOCKET_UNIX_SEQPACKET,
  S.SOCKET_NETLINK,
];

const EVERY = Array.from({ length: S.SOCKET_KIND_COUNT }, (_, kind) => kind);

/** Which sockets a protocol's name stands for. */
export const SOCKETS_OF: Readonly<Record<ProtocolName, readonly number[]>> = {
  tcp: [S.SOCKET_TCP],
  udp: [S.SOCKET_UDP],
  icmp: [S.SOCKET_ICMP_RAW, S.SOCKET_ICMP_DGRAM],
  icmpv6: [S.SOCKET_ICMPV6_RAW, S.SOCKET_ICMPV6_DGRAM],
  raw: [S.SOCKET_ICMP_RAW, S.SOCKET_ICMPV6_RAW, S.SOCKET_IP_RAW, S.SOCKET_PACKET, S.SOCKET_OTHER_RAW],
  sctp: [S.SOCKET_SCTP_STREAM, S.SOCKET_SCTP_SEQPACKET],
  dccp: [S.SOCKET_DCCP],
  packet: [S.SOCKET_PACKET],
  stream: [S.SOCKET_TCP, S.SOCKET_SCTP_STREAM, S.SOCKET_UNIX_STREAM, S.SOCKET_OTHER_STREAM],
  dgram: [
    S.SOCKET_UDP,
    S.SOCKET_ICMP_DGRAM,
    S.SOCKET_ICMPV6_DGRAM,
    S.SOCKET_UNIX_DGRAM,
    S.SOCKET_OTHER_DGRAM,
  ],
  seqpacket: [S.SOCKET_SCTP_SEQPACKET, S.SOCKET_UNIX_SEQPACKET, S.SOCKET_OTHER_SEQPACKET],
  rdm: [S.SOCKET_OTHER_RDM],
  all: EVERY.filter((kind) => !LOCAL.includes(kind)),
};

/** Whether the network posture applies to a kind of socket. */
export function isPostured(kind: number): boolean {
  return !LOCAL.includes(kind);
}

interface KindMatcher extends Votes {
  readonly kind: number;
}

/** Rules about numbered things: kinds of socket, capabilities, ways out. Inputs of one byte. */
export class KindMatchers {
  readonly all: KindMatcher[] = [];
  readonly #byKind = new Map<number, KindMatcher>();

  of(kind: number): KindMatcher {
    let matcher = this.#byKind.get(kind);
    if (matcher === undefined) {
      matcher = { kind, free: noBallots(), bySources: new Map() };
      this.#byKind.set(kind, matcher);
      this.all.push(matcher);
    }
    return matcher;
  }

  /** @param list number of its list of sources, -1 = none */
  addRule(numbered: NumberedRule, kinds: readonly number[], rank: number, list: number): void {
    for (const kind of kinds) {
      const { free, bySources } = this.of(kind);
      if (list < 0) cast(free, numbered, 0, rank, 0);
      else {
        const ballots = bySources.get(list) ?? noBallots();
        bySources.set(list, ballots);
        cast(ballots, numbered, 0, rank, 0);
      }
    }
  }

  finish(): void {
    for (const { free, bySources } of this.all) {
      condense(free);
      for (const ballots of bySources.values()) condense(ballots);
    }
  }

  /** Accept numbers are indices into `all`. */
  automaton(bounds: Bounds): Dfa {
    const nfa = new Nfa();
    this.all.forEach(({ kind }, id) => {
      const state = nfa.state();
      nfa.edge(0, kind, kind, state);
      nfa.accept(state, id);
    });
    return determinise(nfa, bounds);
  }
}
