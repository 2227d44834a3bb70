import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { FrameBuilder, readFrame } from './frame.js';

/** Where a lane's delivery stands: all before it is done. */
export interface Cursor {
  readonly segment: number;
  /** Of a frame in the segment, bytes. */
  readonly offset: number;
  /** Entries of that frame that are done. */
  readonly skip: number;
  /** The number in the lane of the entry that comes next. */
  readonly index: number;
}

/** What of a spool must be known after a restart, besides the entries. */
export interface State {
  /** Up to where each source has been taken in. */
  readonly marks: Readonly<Record<string, number>>;
  /** Events that were dropped and not told of yet, by `reason workload`. */
  readonly pending: Readonly<Record<string, number>>;
  /** By lane. */
  readonly cursors: readonly Cursor[];
  /** The frame that this is in counts only together with the one that is written next. */
  readonly half?: boolean;
}

/**
 * The newest state that is in no frame. Two files, written in turns, so that one is whole whenever the agent is killed.
 */
export class Ledger {
  readonly #paths: readonly string[];
  readonly #files: readonly number[];
  readonly #frame = new FrameBuilder();

  /** @throws the file system's error */
  constructor(directory: string) {
    this.#paths = ['state.0', 'state.1'].map((name) => join(directory, name));
    this.#files = this.#paths.map((path) => openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600));
  }

  /** The newer of the two that is whole. */
  read(): { serial: number; state: State } | undefined {
    const found = this.#paths.flatMap((path) => readFrame(readFileSync(path), 0) ?? []);
    const [newest] = found.sort((a, b) => b.serial - a.serial);
    return newest && { serial: newest.serial, state: JSON.parse(newest.state) as State };
  }

  /** @throws the file system's error */
  write(serial: number, state: string): void {
    const frame = this.#frame.finish(serial, 0, state);
    const written = writeSync(this.#files[serial % 2], frame, 0, frame.length, 0);
    if (written !== frame.length) throw new Error('the state was not written whole');
  }

  close(): void {
    for (const fd of this.#files) closeSync(fd);
  }
}
