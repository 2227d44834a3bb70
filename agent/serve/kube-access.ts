import { ApiError, type KubeApi } from '../control/api.js';
import { type Access, Refusal } from './access.js';
import { Answers, digest } from './answers.js';

/** For how long an answer of the API server holds, in milliseconds. */
const HOLDS_MS = 60_000;
/** How many questions may be on their way: whoever shows bad tokens should not make the agent a burden. */
const MAX_ASKING = 16;
const PATIENCE_MS = 5000;

/** What one must be allowed to do, in a namespace or in all of them, to see its events. */
const RIGHT = { group: 'security.belay.dev', resource: 'events', verb: 'watch' } as const;

/** As TokenReview has it. */
interface User {
  readonly username?: string;
  readonly uid?: string;
  readonly groups?: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

interface TokenReview {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly user?: User;
    readonly audiences?: readonly string[];
  };
}

interface SubjectAccessReview {
  readonly status?: { readonly allowed?: boolean };
}

/** Who callers are and what they may see, as the API server has it: TokenReview and SubjectAccessReview. */
export class KubeAccess {
  readonly #api: Pick<KubeApi, 'request'>;
  readonly #audience: string;
  readonly #users = new Answers<User | undefined>(1024);
  readonly #rights = new Answers<boolean>(8192);
  #asking = 0;

  /** @param audience that tokens must be for; nobody may ask about tokens without one */
  constructor(api: Pick<KubeApi, 'request'>, audience = '') {
    this.#api = api;
    this.#audience = audience;
  }

  /** @throws Refusal */
  async ofToken(token: string): Promise<Access> {
    const user = await this.#user(token);
    if (user === undefined)
      throw new Refusal('unauthenticated', `the token is not good for audience "${this.#audience}"`);
    return this.#access(user, async () => (await this.#user(token))?.username === user.username);
  }

  /** Of one whose certificate has been checked; for how long that is good is not for the API server to say. */
  ofUser(name: string, groups: readonly string[]): Access {
    return this.#access({ username: name, groups: [...groups, 'system:authenticated'] }, () => true);
  }

  #access(user: User, stands: Access['stands']): Access {
    const { username = '' } = user;
    const identity = JSON.stringify([username, user.uid, user.groups, user.extra]);
    /** What was found out, as long as it holds. */
    const known = new Map<string, { allowed: boolean; until: number }>();
    const recall = (namespace: string) => {
      const found = known.get(namespace);
      return found !== undefined && performance.now() < found.until ? found.allowed : undefined;
    };
    const ask = async (namespace: string) => {
      const allowed = await this.#rights.get(`${identity} ${namespace}`, HOLDS_MS, () =>
        this.#may(user, namespace),
      );
      known.set(namespace, { allowed, until: performance.now() + HOLDS_MS });
      return allowed;
    };
    const find = async (namespace: string) =>
      (recall('') ?? (await ask(''))) || (namespace !== '' && ask(namespace));
    return {
      who: username,
      sees: (namespace) => recall('') || (recall('') === false && recall(namespace)) || find(namespace),
      hides: (namespace) => recall('') === false && recall(namespace) === false,
      stands,
    };
  }

  #user(token: string): Promise<User | undefined> {
    return this.#users.get(digest(token), HOLDS_MS, async () => {
      const audiences = [this.#audience];
      const { status } = await this.#ask<TokenReview>('authentication.k8s.io/v1', 'TokenReview', {
        token,
        audiences,
      });
      // a server that does not know audiences says none, and its answer is about itself
      if (status?.authenticated !== true || !status.audiences?.includes(this.#audience)) return undefined;
      return status.user?.username ? status.user : undefined;
    });
  }

  async #may({ username, uid, groups, extra }: User, namespace: string): Promise<boolean> {
    const { status } = await this.#ask<SubjectAccessReview>(
      'authorization.k8s.io/v1',
      'SubjectAccessReview',
      {
        ...{ user: username, uid, groups, extra },
        resourceAttributes: { ...RIGHT, ...(namespace !== '' && { namespace }) },
      },
    );
    return status?.allowed === true;
  }

  async #ask<T>(apiVersion: string, kind: string, spec: object): Promise<T> {
    if (this.#asking >= MAX_ASKING)
      throw new Refusal('busy', 'too many callers are being looked up; try again');
    this.#asking++;
    try {
      const body = { apiVersion, kind, spec };
      const path = `/apis/${apiVersion}/${kind.toLowerCase()}s`;
      return await this.#api.request<T>(path, { method: 'POST', body, patience: PATIENCE_MS });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const what =
        error instanceof ApiError && error.status === 403 ? 'does not let the agent ask' : 'does not answer';
      throw new Refusal('unavailable', `the API server ${what} who may see what: ${why}`);
    } finally {
      this.#asking--;
    }
  }
}
