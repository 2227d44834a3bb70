import { request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import type { Logger } from 'pino';
import type { KubeConfig } from './kube-config.js';

/** Any object of the API, as its JSON has it. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly generation?: number;
    readonly creationTimestamp?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly {
      readonly kind: string;
      readonly name: string;
      readonly controller?: boolean;
    }[];
  };
  readonly [field: string]: unknown;
}

/** The API server answered, and said no. */
export class ApiError extends Error {
  /** The HTTP status. */
  readonly status: number;
  /** Kubernetes' word for it, such as `AlreadyExists`, or nothing. */
  readonly reason: string;
  /** How long it asks to be left alone, in milliseconds. */
  readonly retryAfter: number;

  constructor(status: number, reason: string, message: string, retryAfter = 0) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.reason = reason;
    this.retryAfter = retryAfter;
  }

  /** Of a Status object, which is what errors are in watches and in the bodies of answers. */
  static of(status: unknown, code: number, retryAfter = 0): ApiError {
    const { reason = '', message = `status ${code}` } = (status ?? {}) as {
      reason?: string;
      message?: string;
    };
    return new ApiError(code, reason, message, retryAfter);
  }
}

/** There was no answer, or it was cut off, or it was not one of Kubernetes. */
export class ConnectionError extends Error {
  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message || cause.name : String(cause), { cause });
    this.name = 'ConnectionError';
  }
}

export interface RequestDetails {
  readonly method?: string;
  /** What is undefined is left out. */
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly accept?: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Of the body; patches have types of their own. */
  readonly contentType?: string;
  readonly signal?: AbortSignal;
  /** How long nothing may come, in milliseconds, before the connection is given up. */
  readonly patience?: number;
}

const PATIENCE_MS = 30_000;

/** An object has at most 1.5 MB in etcd; what is far longer is no event of a watch. */
const MAX_LINE = 1 << 25;

/**
 * Requests to the Kubernetes API: JSON in and out. Credentials are asked for each time, since tokens are renewed.
 * Who keeps asking (a `ListWatch`) also says here when the server is away, so that the log tells it once for all.
 */
export class KubeApi {
  readonly #kube: KubeConfig;
  readonly #log: Logger;
  /** Those who get no answer. */
  readonly #waiting = new Set<object>();
  /** Those whom the server refuses, and what the log was told of it. */
  readonly #refused = new Map<object, string>();

  constructor(kube: KubeConfig, log: Logger) {
    this.#kube = kube;
    this.#log = log;
  }

  /**
   * @returns the body
   * @throws ApiError when the server says no, ConnectionError when it cannot be reached or falls silent
   */
  async request<T = KubeObject>(path: string, details: RequestDetails = {}): Promise<T> {
    const answer = await this.#open(path, details);
    return parsed(await answer.text()) as T;
  }

  /**
   * An answer that goes on, a JSON value a line, such as a watch. Resolves when the server has accepted it.
   * @throws as `request`, also while it goes on
   */
  async stream<T>(path: string, details: RequestDetails = {}): Promise<AsyncIterable<T>> {
    return (await this.#open(path, details)).values<T>();
  }

  /** `who` cannot get what it asks for at `path`, and goes on trying. */
  lost(who: object, path: string, error: ApiError | ConnectionError): void {
    const why = error.message;
    if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
      this.#answered(who);
      if (this.#refused.get(who) !== why) this.#log.error({ path, why }, 'the Kubernetes API server refuses');
      this.#refused.set(who, why);
      return;
    }
    if (this.#waiting.size === 0)
      this.#log.warn({ path, why }, 'the Kubernetes API server does not answer; what is known stays');
    this.#waiting.add(who);
  }

  /** `who` has got what it asked for at `path`. */
  found(who: object, path: string): void {
    this.#answered(who);
    if (this.#refused.delete(who)) this.#log.info({ path }, 'the Kubernetes API server no longer refuses');
  }

  /** `who` no longer asks. */
  forget(who: object): void {
    this.#waiting.delete(who);
    this.#refused.delete(who);
  }

  #answered(who: object): void {
    if (this.#waiting.delete(who) && this.#waiting.size === 0)
      this.#log.info('the Kubernetes API server answers again');
  }

  async #open(path: string, details: RequestDetails): Promise<Answer> {
    const { method = 'GET', query = {}, accept = 'application/json', body, signal, patience } = details;
    const server = this.#kube.getCurrentCluster()?.server;
    if (server === undefined) throw new Error('the kubeconfig names no cluster');
    const url = new URL(server.replace(/\/+$/, '') + path);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const options: RequestOptions = { method };
    try {
      await this.#kube.applyToHTTPSOptions(options);
    } catch (error) {
      throw new ConnectionError(error); // a token that cannot be had
    }
    const text = body === undefined ? undefined : JSON.stringify(body);
    const type = text === undefined ? {} : { 'content-type': details.contentType ?? 'application/json' };
    options.headers = { ...(options.headers as OutgoingHttpHeaders | undefined), accept, ...type };
    const answer = new Answer(patience ?? PATIENCE_MS, signal);
    return answer.of(() => (url.protocol === 'http:' ? httpRequest : httpsRequest)(url, options), text);
  }
}

/** One request under way, given up when nothing comes for too long. */
class Answer {
  readonly #abort = new AbortController();
  readonly #caller: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout;
  #response: IncomingMessage | undefined;
  readonly #callOff = () => this.#abort.abort(this.#caller?.reason);

  constructor(patience: number, caller: AbortSignal | undefined) {
    this.#caller = caller;
    if (caller?.aborted) this.#callOff();
    // not `AbortSignal.any`: what it makes lives as long as the caller's, which may be the agent's whole life
    caller?.addEventListener('abort', this.#callOff);
    const silent = () => this.#abort.abort(new Error(`nothing came for ${patience / 1000} s`));
    this.#timer = setTimeout(silent, patience);
  }

  async of(send: () => ReturnType<typeof httpRequest>, body: string | undefined): Promise<this> {
    const { signal } = this.#abort;
    try {
      signal.throwIfAborted();
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const request = send();
        signal.addEventListener('abort', () => request.destroy(signal.reason), { once: true });
        // finds a peer that vanished, and keeps what lies between from forgetting an idle watch
        request.on('socket', (socket) => socket.setKeepAlive(true, 30_000));
        request.on('error', reject);
        request.on('response', resolve);
        request.end(body);
      });
      this.#response = response;
      this.#timer.refresh();
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) return this;
      const seconds = Number(response.headers['retry-after'] ?? 0);
      throw ApiError.of(object(await this.text()), status, Number.isFinite(seconds) ? seconds * 1000 : 0);
    } catch (error) {
      this.#end();
      throw error instanceof ApiError ? error : new ConnectionError(error);
    }
  }

  async text(): Promise<string> {
    let text = '';
    for await (const chunk of this.#chunks()) text += chunk;
    return text;
  }

  async *values<T>(): AsyncGenerator<T> {
    let rest = '';
    for await (const chunk of this.#chunks()) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_LINE) throw new ConnectionError('a line without end');
      for (const line of lines) if (line !== '') yield parsed(line) as T;
    }
  }

  async *#chunks(): AsyncGenerator<string> {
    const chunks = this.#response?.setEncoding('utf8')[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await chunks?.next().catch((error: unknown) => {
          const { aborted, reason } = this.#abort.signal;
          throw new ConnectionError(aborted ? reason : error);
        });
        if (next === undefined || next.done) return;
        this.#timer.refresh();
        yield next.value as string;
      }
    } finally {
      this.#end();
    }
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener('abort', this.#callOff);
    this.#response?.destroy();
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ConnectionError(error);
  }
}

/** Undefined when the text is none: what stands between may answer with a page of its own. */
function object(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
