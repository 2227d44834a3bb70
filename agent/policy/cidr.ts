import { isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Cidr } from './model.js';

/**
 * Reads `address/prefix`. IPv4-mapped IPv6 blocks (`::ffff:a.b.c.d/96` and longer) become IPv4 ones.
 * @returns the block, or a fault in words that say what to write instead
 */
export function parseCidr(text: string): { readonly cidr: Cidr } | { readonly fault: string } {
  const slash = text.indexOf('/');
  const address = slash < 0 ? text : text.slice(0, slash);
  const four = isIPv4(address);
  if (!four && (!isIPv6(address) || address.includes('%'))) {
    return { fault: 'is not an address block; write it like 10.0.0.0/8 or 2001:db8::/32' };
  }
  const bits = four ? 32 : 128;
  if (slash < 0) return { fault: `has no prefix length; write ${address}/${bits} for the one address` };
  const suffix = text.slice(slash + 1);
  const prefix = /^(0|[1-9]\d{0,2})$/.test(suffix) ? Number(suffix) : -1;
  if (prefix < 0 || prefix > bits) {
    return { fault: `has an impossible prefix length; it must be a number from 0 to ${bits}` };
  }
  const bytes = ipaddr.parse(address).toByteArray();
  const masked = mask(bytes, prefix);
  if (masked.some((byte, i) => byte !== bytes[i])) {
    const right = ipaddr.fromByteArray(masked).toString();
    return {
      fault: `has bits set after the prefix; write ${right}/${prefix} for the block, or ${address}/${bits} for the one address`,
    };
  }
  return { cidr: fold({ bytes: masked, prefix }) };
}

/** Whether every address of `inner` is in `outer`. */
export function contains(outer: Cidr, inner: Cidr): boolean {
  if (outer.bytes.length !== inner.bytes.length || inner.prefix < outer.prefix) return false;
  return mask(inner.bytes, outer.prefix).every((byte, i) => byte === outer.bytes[i]);
}

function mask(bytes: readonly number[], prefix: number): number[] {
  return bytes.map((byte, i) => {
    const kept = Math.min(8, Math.max(0, prefix - 8 * i));
    return byte & (0xff00 >> kept) & 0xff;
  });
}

function fold(cidr: Cidr): Cidr {
  const mapped =
    cidr.bytes.length === 16 &&
    cidr.prefix >= 96 &&
    cidr.bytes.slice(0, 10).every((byte) => byte === 0) &&
    cidr.bytes[10] === 0xff &&
    cidr.bytes[11] === 0xff;
  return mapped ? { bytes: cidr.bytes.slice(12), prefix: cidr.prefix - 96 } : cidr;
}
