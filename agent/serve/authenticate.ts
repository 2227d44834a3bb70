import { type Access, type Authenticate, everything, Refusal } from './access.js';
import type { KubeAccess } from './kube-access.js';
import type { Oidc } from './oidc.js';

export interface Authorities {
  /** Certificates of an authority are checked before callers come here. */
  readonly certificates: boolean;
  /** Who knows the API server's tokens. */
  readonly tokens?: Pick<KubeAccess, 'ofToken'>;
  /** Who knows what a certificate's holder may see; without, that is everything. */
  readonly users?: Pick<KubeAccess, 'ofUser'>;
  readonly oidc?: { readonly issuer: string; readonly tokens: Pick<Oidc, 'ofToken'> };
}

/**
 * Who callers are, by a bearer token or a client certificate. A certificate's holder may see what the API server says its
 * name and groups may; without an API server, everything.
 */
export function authenticator({ certificates, tokens, users, oidc }: Authorities): Authenticate {
  return ({ bearer, certificate }): Access | Promise<Access> => {
    if (
      bearer !== undefined &&
      oidc !== undefined &&
      (tokens === undefined || issuerOf(bearer) === oidc.issuer)
    )
      return oidc.tokens.ofToken(bearer);
    if (bearer !== undefined && tokens !== undefined) return tokens.ofToken(bearer);
    if (certificate !== undefined && certificates) {
      const { name, groups, until } = certificate;
      // it was good when the connection was made, which may be long ago
      const stands = () => Date.now() < until;
      if (!stands()) throw new Refusal('unauthenticated', `the certificate of ${name} has expired`);
      return { ...(users?.ofUser(name, groups) ?? everything(name)), stands };
    }
    const ways = [
      ...(certificates ? ['a client certificate'] : []),
      ...(tokens || oidc ? ['a bearer token'] : []),
    ];
    throw new Refusal('unauthenticated', `show who you are by ${ways.join(' or ')}`);
  };
}

/** What an unverified token says of its issuer: enough to know whom to ask about it. */
function issuerOf(token: string): unknown {
  try {
    return (JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { iss?: unknown })
      .iss;
  } catch {
    return undefined;
  }
}

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost):\d+$/;

/** Why an address may not be served; undefined = it may. What leaves the node is encrypted, and for who is known. */
export function unsafe(
  address: string,
  { tls, authenticated }: { readonly tls: boolean; readonly authenticated: boolean },
): string | undefined {
  if (LOOPBACK.test(address)) return undefined;
  if (!tls) return `${address} can be reached from elsewhere: give a certificate and a key for TLS`;
  if (!authenticated)
    return `${address} can be reached from elsewhere: say who may ask, by client certificates or tokens`;
  return undefined;
}
