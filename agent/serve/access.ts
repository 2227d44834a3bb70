/** Why a caller gets nothing. */
export class Refusal extends Error {
  readonly kind: 'unauthenticated' | 'forbidden' | 'invalid' | 'busy' | 'unavailable';

  constructor(kind: Refusal['kind'], message: string) {
    super(message);
    this.name = 'Refusal';
    this.kind = kind;
  }
}

/** What a caller may see. Asking may take a while; what is known is said at once. */
export interface Access {
  /** For the log. */
  readonly who: string;
  /**
   * Whether it may see what belongs to a namespace; '' = all of them, and the node's own matters.
   * @throws Refusal when that cannot be found out
   */
  sees(namespace: string): boolean | Promise<boolean>;
  /** Whether it is known, without asking, that it may not. */
  hides(namespace: string): boolean;
  /**
   * Whether the caller is still who it was. To be asked about once a minute while it is served.
   * @throws Refusal when that cannot be found out
   */
  stands(): boolean | Promise<boolean>;
}

/** How a caller shows who it is. */
export interface Credentials {
  /** Of a client certificate that the configured authority has signed: its common name and organisations. */
  readonly certificate?: {
    readonly name: string;
    readonly groups: readonly string[];
    /** When it expires: Unix time, ms. */
    readonly until: number;
  };
  /** What stands behind `Bearer` in the authorization header. */
  readonly bearer?: string;
}

/** @throws Refusal */
export type Authenticate = (credentials: Credentials) => Access | Promise<Access>;

/** Sees everything: the node's root, and who it trusts. */
export const everything = (who: string): Access => ({
  who,
  sees: () => true,
  hides: () => false,
  stands: () => true,
});

/** What stands behind `Bearer`. */
export function bearerOf(header: string | undefined): string | undefined {
  return /^Bearer +([^\s]{1,16384})$/i.exec(header ?? '')?.[1];
}
