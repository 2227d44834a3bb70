import { isScalar } from 'yaml';
import { contains, parseCidr } from './cidr.js';
import { asText, type Fields, short, typeName } from './fields.js';
import { type Common, inherit, warnBelayOnly } from './inherit.js';
import { readSources } from './matcher.js';
import type { AddressRule, Cidr, DomainRule, PolicyKind, PortRange, ProtocolRule } from './model.js';
import {
  ADDRESS_RULES,
  DNS_RULE,
  DOMAIN_NAME,
  PEER,
  PEER_SELECTOR,
  PORTS,
  PROTOCOL_RULE,
  SECTIONS,
} from './schema/rules.js';
import { fieldNames } from './schema/shape.js';
import { OPERATORS, PROTOCOL_SPELLINGS, PROTOCOLS, TRANSPORT_SPELLINGS } from './schema/words.js';
import { suggestion } from './vocabulary.js';

type Peer = AddressRule['peers'][number];

/** The rules of a `network` section: by protocol, by address in either direction, and by the names that are looked up. */
export function readNetworkRules(
  section: Fields,
  outer: Common,
  kind: PolicyKind,
): (ProtocolRule | AddressRule | DomainRule)[] {
  section.allow(fieldNames(SECTIONS.network));
  warnBelayOnly(section, kind, ['egress', 'ingress']);
  const common = inherit(section, outer, kind);
  const protocols = section
    .list('matchProtocols', 'network.matchProtocols')
    .flatMap((item) => readProtocolRule(item, common, kind) ?? []);
  const addresses = (['egress', 'ingress'] as const).flatMap((direction) =>
    section
      .list(direction, `network.${direction}`)
      .flatMap((item) => readAddressRule(item, direction, common, kind) ?? []),
  );
  const domains = section
    .list('matchDNSQueries', 'network.matchDNSQueries')
    .flatMap((item) => readDomainRule(item, common, kind) ?? []);
  return [...protocols, ...addresses, ...domains];
}

function readProtocolRule(item: Fields, outer: Common, kind: PolicyKind): ProtocolRule | undefined {
  item.allow(fieldNames(PROTOCOL_RULE));
  const rule = {
    id: item.what,
    at: item.source.at(item.node),
    class: 'network' as const,
    kind: 'protocol' as const,
    ...inherit(item, outer, kind),
    sources: readSources(item, kind),
  };
  const node = item.required('protocol', `write protocol: ${PROTOCOLS.join(', ')}`);
  const written = node && asText(item.source, node, `${item.what}.protocol`);
  if (node === undefined || written === undefined) return undefined;
  const protocol = PROTOCOL_SPELLINGS.get(written);
  if (protocol !== undefined) return { ...rule, protocol };
  const advice = suggestion(written, PROTOCOLS) || `; write one of ${PROTOCOLS.join(', ')}`;
  item.source.error(node, `unknown protocol "${short(written)}" in ${item.what}${advice}`);
  return undefined;
}

function readAddressRule(
  item: Fields,
  direction: 'egress' | 'ingress',
  outer: Common,
  kind: PolicyKind,
): AddressRule | undefined {
  const list = direction === 'egress' ? 'to' : 'from';
  const other = direction === 'egress' ? 'from' : 'to';
  item.allow(fieldNames(ADDRESS_RULES[direction]), {
    [other]: `${direction} rules name their peers under ${list}`,
  });
  const peers = readPeers(item, list);
  const rule: AddressRule = {
    id: item.what,
    at: item.source.at(item.node),
    class: 'network',
    kind: 'address',
    direction,
    ...inherit(item, outer, kind),
    sources: readSources(item, kind),
    peers: peers ?? [],
    ports: item.list('ports').flatMap((port) => readPorts(port) ?? []),
  };
  return peers === undefined ? undefined : rule;
}

/**
 * The address blocks of a rule: empty when the policy names no peer at all. Undefined when it names some and none
 * can be enforced: then the rule must go, lest "nobody we know" turn into "anybody".
 */
function readPeers(item: Fields, list: 'to' | 'from'): Peer[] | undefined {
  const source = item.source;
  const given = item.list(list);
  const peers: Peer[] = [];
  const left: Fields[] = [];
  for (const peer of given) {
    peer.allow(fieldNames(PEER), {
      ipBlock: 'write cidr and except directly in the entry',
    });
    const forms = (['cidr', 'fqdn'] as const).filter((name) => peer.has(name));
    const selects = peer.has('podSelector') || peer.has('namespaceSelector');
    if (forms.length + (selects ? 1 : 0) !== 1) {
      source.error(
        peer.node,
        `${peer.what} must have exactly one of cidr, fqdn, and podSelector with or without namespaceSelector; make an entry of each`,
      );
      continue;
    }
    if (!peer.has('cidr') && peer.has('except')) {
      source.error(
        peer.entry('except')?.key ?? peer.node,
        `except in ${peer.what} goes with cidr only; take it out`,
      );
    }
    if (peer.has('cidr')) {
      const block = readBlock(peer);
      if (block !== undefined) peers.push(block);
      continue;
    }
    if (peer.has('fqdn')) readDomain(peer, 'fqdn');
    else checkPeerSelectors(peer);
    left.push(peer);
  }
  const first = left[0];
  if (first === undefined) return peers;
  const whole = left.length === given.length;
  source.warn(
    first.node,
    whole
      ? `${item.what} is not enforced: this version knows peers by cidr only, not by name or selector; name address blocks`
      : `${left.map((peer) => peer.what).join(', ')} not enforced: this version knows peers by cidr only; the rule holds for its address blocks`,
  );
  return whole ? undefined : peers;
}

function readBlock(peer: Fields): Peer | undefined {
  const cidr = readCidr(peer, 'cidr');
  const except: Cidr[] = [];
  for (const { node, index } of peer.items('except') ?? []) {
    const what = `${peer.what}.except[${index}]`;
    const text = asText(peer.source, node, what);
    if (text === undefined) continue;
    const read = parseCidr(text);
    if ('fault' in read) peer.source.error(node, `${what} "${short(text)}" ${read.fault}`);
    else if (cidr !== undefined && !contains(cidr, read.cidr)) {
      peer.source.error(
        node,
        `${what} "${short(text)}" lies outside the cidr it is taken from; correct one of the two`,
      );
    } else except.push(read.cidr);
  }
  return cidr === undefined ? undefined : { cidr, except };
}

function readCidr(peer: Fields, name: string): Cidr | undefined {
  const node = peer.required(name, 'write an address block like 10.0.0.0/8');
  const text = node && asText(peer.source, node, `${peer.what}.${name}`);
  if (node === undefined || text === undefined) return undefined;
  const read = parseCidr(text);
  if ('cidr' in read) return read.cidr;
  peer.source.error(node, `${peer.what}.${name} "${short(text)}" ${read.fault}`);
  return undefined;
}

function readPorts(item: Fields): PortRange | undefined {
  const source = item.source;
  item.allow(fieldNames(PORTS));
  const protocol = readTransport(item);
  const named = item.entry('port')?.value;
  if (named != null && isScalar(named) && typeof named.value === 'string' && !/^\d+$/.test(named.value)) {
    source.error(
      named,
      `${item.what}.port cannot be a name ("${short(named.value)}"); write the port's number`,
    );
    return undefined;
  }
  const { minimum, maximum } = PORTS.properties.port;
  const from = item.integer('port', minimum, maximum);
  const to = item.integer('endPort', minimum, maximum);
  if (to !== undefined && !item.has('port')) {
    source.error(
      item.entry('endPort')?.key ?? item.node,
      `${item.what} has endPort without port; write the first port too`,
    );
    return undefined;
  }
  if (from !== undefined && to !== undefined && to < from) {
    source.error(
      item.entry('endPort')?.value ?? item.node,
      `${item.what}.endPort ${to} is before port ${from}; swap them`,
    );
    return undefined;
  }
  const range = from === undefined ? { from: 0, to: 65535 } : { from, to: to ?? from };
  return protocol === undefined ? range : { protocol, ...range };
}

function readTransport(item: Fields): PortRange['protocol'] {
  const node = item.value('protocol');
  if (node === undefined) return undefined;
  const written = isScalar(node) && typeof node.value === 'string' ? node.value : undefined;
  const transport = TRANSPORT_SPELLINGS.get(written ?? '');
  if (transport !== undefined) return transport;
  const shown = written === undefined ? typeName(node) : `"${short(written)}"`;
  item.source.error(
    node,
    `${item.what}.protocol cannot be ${shown}; write TCP, UDP or SCTP, or leave it out for all`,
  );
  return undefined;
}

const DOMAIN = new RegExp(DOMAIN_NAME);

/** In lower case, without a dot at its end. */
function readDomain(item: Fields, name: string): string | undefined {
  const node = item.required(name, 'write a domain name like example.com');
  const text = node && asText(item.source, node, `${item.what}.${name}`);
  if (node === undefined || text === undefined) return undefined;
  if (text.length <= 254 && DOMAIN.test(text)) return text.toLowerCase().replace(/\.$/, '');
  item.source.error(
    node,
    `${item.what}.${name} "${short(text)}" is not a domain name; write one like example.com`,
  );
  return undefined;
}

function checkPeerSelectors(peer: Fields): void {
  for (const name of ['podSelector', 'namespaceSelector']) {
    const selector = peer.fields(name);
    selector?.allow(fieldNames(PEER_SELECTOR));
    const labels = selector?.fields('matchLabels');
    for (const label of labels?.names ?? []) labels?.text(label);
    selector?.list('matchExpressions').forEach((expression) => {
      expression.allow(fieldNames(PEER_SELECTOR.properties.matchExpressions.items));
      expression.required('key', 'name the label');
      expression.choice('operator', OPERATORS);
      expression.texts('values');
    });
  }
}

/** Look-ups of domain names. What kills elsewhere denies here, which is told. */
function readDomainRule(item: Fields, outer: Common, kind: PolicyKind): DomainRule | undefined {
  item.allow(fieldNames(DNS_RULE));
  const { action, ...common } = inherit(item, outer, kind);
  const sources = readSources(item, kind);
  const domain = readDomain(item, 'domain');
  if (action === 'Kill' || action === 'KillContainer') {
    item.source.warn(
      item.entry('action')?.value ?? item.node,
      `${item.what} denies and does not kill: what is judged is a packet, not a process; write action: Block`,
    );
  }
  if (domain === undefined) return undefined;
  return {
    id: item.what,
    at: item.source.at(item.node),
    class: 'network',
    kind: 'dns',
    ...common,
    action: action === 'Kill' || action === 'KillContainer' ? 'Block' : action,
    sources,
    domain: domain.replace(/^\*\./, ''),
    below: domain.startsWith('*.'),
  };
}
