import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
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
/** A file that is being written. */
const NEW = '.new';

/**
 * The last good versions of policy objects, by the objects' UIDs: each is a file, so that the next agent has it even if a
 * bad one came while no agent ran. The files are written one after the other, and nobody waits for that: an agent that
 * is killed loses the newest only. What the disk refuses is logged, and kept as long as this agent runs.
 */
export class LastGood {
  readonly #directory: string;
  readonly #log: Logger;
  readonly #versions = new Map<string, Version>();
  /** Whose files are to be written or removed, oldest first. */
  readonly #due = new Set<string>();
  #writing: Promise<void> | undefined;
  /** The disk has refused something; it is said once, not for each of a thousand policies. */
  #refused = false;

  constructor(directory: string, log: Logger) {
    this.#directory = directory;
    this.#log = log;
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      for (const name of readdirSync(directory)) {
        if (UID.test(name)) this.#read(name);
        else if (name.endsWith(NEW) && UID.test(name.slice(0, -NEW.length)))
          rmSync(join(directory, name), { force: true });
      }
    } catch (error) {
      this.#refuse(directory, error);
    }
  }

  get uids(): readonly string[] {
    return [...this.#versions.keys()];
  }

  get(uid: string): Version | undefined {
    return this.#versions.get(uid);
  }

  set(uid: string, version: Version): void {
    if (!UID.test(uid)) return;
    const before = this.#versions.get(uid);
    // also if it is the same: the text that was read from the disk is a copy of one that is held anyway
    this.#versions.set(uid, version);
    if (before?.generation !== version.generation || before.text !== version.text) this.#later(uid);
  }

  delete(uid: string): void {
    if (this.#versions.delete(uid)) this.#later(uid);
  }

  /** Resolves when the disk has everything that it takes. */
  async written(): Promise<void> {
    await this.#writing;
  }

  #later(uid: string): void {
    this.#due.add(uid);
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    // also those that are added meanwhile
    for (const uid of this.#due) {
      this.#due.delete(uid);
      const path = join(this.#directory, uid);
      const version = this.#versions.get(uid);
      try {
        if (version === undefined) await rm(path, { force: true });
        else {
          await writeFile(`${path}${NEW}`, JSON.stringify(version), { mode: 0o600, flush: true });
          await rename(`${path}${NEW}`, path);
        }
        this.#refused = false;
      } catch (error) {
        if (!this.#refused) this.#refuse(path, error);
        this.#refused = true;
      }
    }
    this.#writing = undefined;
  }

  #read(uid: string): void {
    const path = join(this.#directory, uid);
    try {
      const { generation, text }: Partial<Version> = JSON.parse(readFileSync(path, 'utf8'));
      if (typeof generation !== 'number' || typeof text !== 'string') throw new Error('it is damaged');
      this.#versions.set(uid, { generation, text });
    } catch (error) {
      this.#refuse(path, error);
    }
  }

  #refuse(path: string, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#log.warn({ path, reason }, 'the last good versions of policies may not outlive the agent');
  }
}
