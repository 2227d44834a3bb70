import type { BelayRecord } from '../../event/record.js';
import type { Format } from '../formats/format.js';
import type { Entry } from '../spool/frame.js';
import { NOTHING_REFUSED, type Outcome, type Transport } from '../transport.js';

/** A line for each record, on standard output. */
export class StandardOutput implements Transport {
  readonly maxEntries = 1000;
  readonly maxBytes = 1 << 20;
  readonly gatherMs = 0;
  readonly #format: Format;

  constructor(format: Format) {
    this.#format = format;
    // `send` is told
    process.stdout.on('error', () => {});
  }

  encode(record: BelayRecord): string {
    return `${this.#format(record)}\n`;
  }

  async send(entries: readonly Entry[]): Promise<Outcome> {
    const bytes = Buffer.concat(entries.map(({ payload }) => payload));
    await new Promise<void>((resolve, reject) =>
      process.stdout.write(bytes, (error) => (error ? reject(error) : resolve())),
    );
    return NOTHING_REFUSED;
  }

  async close(): Promise<void> {}
}
