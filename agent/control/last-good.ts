import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';

/** A version of a policy object. */
export interface Version {
  readonly generation: number;
  /** As it was read. */
  readonly text: string;
}

/** Other names of files are none of ours. */
const UID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * The last good versions of policy objects that are rejected, by the objects' UIDs: each is a file, so that the next agent has
 * it. What the disk refuses is logged, and kept as long as this agent runs.
 */
export class LastGood {
  readonly #directory: string;
  readonly #log: Logger;
  readonly #versions = new Map<string, Version>();

  constructor(directory: string, log: Logger) {
    this.#directory = directory;
    this.#log = log;
    this.#try(directory, () => {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      for (const uid of readdirSync(directory)) if (UID.test(uid)) this.#read(uid);
    });
  }

  get uids(): readonly string[] {
    return [...this.#versions.keys()];
  }

  get(uid: string): Version | undefined {
    return this.#versions.get(uid);
  }

  set(uid: string, version: Version): void {
    if (!UID.test(uid) || this.#versions.get(uid)?.text === version.text) return;
    this.#versions.set(uid, version);
    const path = join(this.#directory, uid);
    this.#try(path, () => {
      writeFileSync(`${path}.new`, JSON.stringify(version), { mode: 0o600, flush: true });
      renameSync(`${path}.new`, path);
    });
  }

  delete(uid: string): void {
    if (!this.#versions.delete(uid)) return;
    const path = join(this.#directory, uid);
    this.#try(path, () => rmSync(path, { force: true }));
  }

  #read(uid: string): void {
    const path = join(this.#directory, uid);
    this.#try(path, () => {
      const { generation, text }: Partial<Version> = JSON.parse(readFileSync(path, 'utf8'));
      if (typeof generation !== 'number' || typeof text !== 'string') throw new Error('it is damaged');
      this.#versions.set(uid, { generation, text });
    });
  }

  #try(path: string, what: () => void): void {
    try {
      what();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#log.warn(
        { path, reason },
        'the last good version of a rejected policy may not outlive the agent',
      );
    }
  }
}
