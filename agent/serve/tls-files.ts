import { constants } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { Logger } from 'pino';
import { watchPath } from '../workload/watch-path.js';

export interface TlsPaths {
  /** PEM, with the certificates between it and the root. */
  readonly certificate: string;
  readonly key: string;
  /** Who signs the certificates of clients. */
  readonly clientCa?: string;
}

/** Certificates and the key, as their files have them now. What cannot be used is said, and the last good ones stay. */
export class TlsFiles {
  readonly #paths: TlsPaths;
  readonly #watches: { close(): void }[];
  readonly #listeners: ((options: SecureContextOptions) => void)[] = [];
  #options: SecureContextOptions;
  #seen: string;

  /** @throws Error when they cannot be read, or do not belong together */
  constructor(paths: TlsPaths, log: Logger) {
    this.#paths = paths;
    this.#options = this.#read();
    this.#seen = identity(this.#options);
    const look = () => {
      try {
        const fresh = this.#read();
        const now = identity(fresh);
        if (now === this.#seen) return;
        this.#seen = now;
        this.#options = fresh;
        for (const listener of this.#listeners) listener(fresh);
        log.info({ certificate: paths.certificate }, 'the certificates have changed, and are used');
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        log.error({ why }, 'the certificates have changed, and cannot be used; the ones before are');
      }
    };
    const files = [paths.certificate, paths.key, ...(paths.clientCa ? [paths.clientCa] : [])];
    this.#watches = files.map((file) => watchPath(file, look));
  }

  get hasClientAuthority(): boolean {
    return this.#paths.clientCa !== undefined;
  }

  get options(): SecureContextOptions {
    return this.#options;
  }

  onChange(listener: (options: SecureContextOptions) => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    for (const watch of this.#watches) watch.close();
  }

  #read(): SecureContextOptions {
    const { certificate, key, clientCa } = this.#paths;
    const options: SecureContextOptions = {
      cert: readFileSync(certificate, 'utf8'),
      key: readFileSync(key, 'utf8'),
      ...(clientCa !== undefined && { ca: readFileSync(clientCa, 'utf8') }),
      minVersion: 'TLSv1.2',
      // every connection shows its certificate anew: a session that is resumed would outlive its authority
      secureOptions: constants.SSL_OP_NO_TICKET,
    };
    if (clientCa !== undefined && !String(options.ca).includes('BEGIN CERTIFICATE'))
      throw new Error(`${clientCa} holds no certificate`);
    try {
      createSecureContext(options);
    } catch (error) {
      throw new Error(`${certificate} and ${key}: ${error instanceof Error ? error.message : String(error)}`);
    }
    return options;
  }
}

const identity = ({ cert, key, ca }: SecureContextOptions) => JSON.stringify([cert, key, ca]);
