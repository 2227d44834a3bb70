import { enums } from '../../agent/policy/layout.js';
import type { ProtocolName } from '../../agent/policy/model.js';

const LOCAL = 'UNIX_STREAM UNIX_DGRAM UNIX_SEQPACKET NETLINK';

const KINDS: Readonly<Record<ProtocolName | 'local', string>> = {
  local: LOCAL,
  tcp: 'TCP',
  udp: 'UDP',
  raw: 'ICMP_RAW ICMPV6_RAW IP_RAW PACKET OTHER_RAW',
  icmp: 'ICMP_RAW ICMP_DGRAM',
  icmpv6: 'ICMPV6_RAW ICMPV6_DGRAM',
  sctp: 'SCTP_STREAM SCTP_SEQPACKET',
  stream: 'TCP SCTP_STREAM UNIX_STREAM OTHER_STREAM',
  dgram: 'UDP ICMP_DGRAM ICMPV6_DGRAM UNIX_DGRAM OTHER_DGRAM',
  seqpacket: 'SCTP_SEQPACKET UNIX_SEQPACKET OTHER_SEQPACKET',
  rdm: 'OTHER_RDM',
  dccp: 'DCCP',
  packet: 'PACKET',
  all: Object.keys(enums.socket_kind)
    .map((name) => name.slice('SOCKET_'.length))
    .filter((name) => name !== 'KIND_COUNT' && !LOCAL.split(' ').includes(name))
    .join(' '),
};

/** Which sockets a protocol's name stands for; `local` = those that only names reach, never the posture. */
export function socketsOf(protocol: ProtocolName | 'local'): number[] {
  const numbers: Readonly<Record<string, number>> = enums.socket_kind;
  return KINDS[protocol].split(' ').map((name) => numbers[`SOCKET_${name}`]);
}
