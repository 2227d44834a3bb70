import { constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { Writable } from 'node:stream';

/** How often it is looked whether somebody reads. */
const LOOK_MS = 200;

/**
 * A FIFO, for who writes to it. As long as nobody reads, what is written waits; but no thread does, as it would with a file's
 * stream: the process could not end before that thread.
 */
export class Pipe extends Writable {
  readonly #path: string;
  #socket: Socket | undefined;

  constructor(path: string) {
    super();
    this.#path = path;
  }

  override _construct(callback: (error?: Error | null) => void): void {
    try {
      if (!this.destroyed) this.#open();
      callback();
    } catch (error) {
      // nobody reads
      if ((error as NodeJS.ErrnoException).code === 'ENXIO')
        setTimeout(() => this._construct(callback), LOOK_MS).unref();
      else callback(error as Error);
    }
  }

  #open(): void {
    const fd = openSync(this.#path, constants.O_WRONLY | constants.O_NONBLOCK);
    this.#socket = new Socket({ fd, readable: false, writable: true });
    this.#socket.on('error', (error) => this.destroy(error));
  }

  override _write(bytes: Buffer, _: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#socket?.write(bytes, callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#socket?.destroy();
    callback(error);
  }
}
