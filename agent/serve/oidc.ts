import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { type Access, Refusal } from './access.js';

/** Signatures with keys that are public; never a shared secret, never none. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
const PATIENCE_MS = 5000;
/** Clocks differ. In seconds. */
const TOLERANCE_S = 30;

export interface OidcOptions {
  /** As tokens have it in `iss`, to the letter. */
  readonly issuer: string;
  /** One of the token's `aud`. */
  readonly audience: string;
}

/**
 * Callers with tokens of an OpenID Connect issuer. They may see the namespaces that the token's claim `namespaces` lists;
 * `*` is all of them.
 */
export class Oidc {
  readonly #options: OidcOptions;
  #keys: JWTVerifyGetKey | undefined;

  constructor(options: OidcOptions) {
    this.#options = options;
  }

  /** @throws Refusal */
  async ofToken(token: string): Promise<Access> {
    const claims = await this.#verify(token);
    const listed = claims.namespaces;
    const namespaces = new Set(
      Array.isArray(listed) ? listed.filter((each) => typeof each === 'string') : [],
    );
    const all = namespaces.has('*');
    const sees = (namespace: string) => all || (namespace !== '' && namespaces.has(namespace));
    const expires = (claims.exp as number) + TOLERANCE_S;
    return {
      who: `${this.#options.issuer}#${claims.sub}`,
      sees,
      hides: (namespace) => !sees(namespace),
      stands: () => Date.now() / 1000 < expires,
    };
  }

  async #verify(token: string): Promise<JWTPayload> {
    const keys = await this.#discovered();
    try {
      const { payload } = await jwtVerify(token, keys, {
        ...{ issuer: this.#options.issuer, audience: this.#options.audience, algorithms: ALGORITHMS },
        ...{ requiredClaims: ['exp', 'sub'], clockTolerance: TOLERANCE_S },
      });
      return payload;
    } catch (error) {
      if (error instanceof errors.JWKSTimeout || !(error instanceof errors.JOSEError)) throw away(error);
      throw new Refusal('unauthenticated', `the token is not good: ${error.message}`);
    }
  }

  /** The issuer's keys, found by its configuration (OpenID Connect Discovery 1.0, section 4); jose keeps and renews them. */
  async #discovered(): Promise<JWTVerifyGetKey> {
    if (this.#keys !== undefined) return this.#keys;
    const { issuer } = this.#options;
    const place = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
    try {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const response = await fetch(place, { signal, redirect: 'error' });
      if (!response.ok) throw new Error(`${place}: status ${response.status}`);
      const found = (await response.json()) as { issuer?: unknown; jwks_uri?: unknown };
      if (found.issuer !== issuer) throw new Error(`${place} is another issuer's: ${String(found.issuer)}`);
      const keys = new URL(String(found.jwks_uri));
      if (keys.protocol !== new URL(issuer).protocol)
        throw new Error(`${place}: its keys are elsewhere: ${keys}`);
      this.#keys = createRemoteJWKSet(keys, { timeoutDuration: PATIENCE_MS });
      return this.#keys;
    } catch (error) {
      throw away(error);
    }
  }
}

function away(error: unknown): Refusal {
  const why = error instanceof Error ? error.message : String(error);
  return new Refusal('unavailable', `the issuer's keys cannot be had: ${why}`);
}
