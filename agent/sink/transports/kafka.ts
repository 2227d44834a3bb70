import kafkajs, { type KafkaJSProtocolError, type Producer, type SASLOptions } from 'kafkajs';
import type { BelayRecord } from '../../event/record.js';
import type { Format } from '../formats/format.js';
import { readSecret, type Secret, type TlsFiles, tlsOptions } from '../secret.js';
import type { Entry } from '../spool/frame.js';
import { NOTHING_REFUSED, type Outcome, Refused, type Transport } from '../transport.js';

const REQUEST_MS = 20_000;
/** MESSAGE_TOO_LARGE, CORRUPT_MESSAGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD: the records are at fault. */
const REFUSALS: readonly number[] = [10, 2, 18, 87];

export interface KafkaOptions {
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly format: Format;
  /** Undefined: without TLS. */
  readonly tls?: TlsFiles;
  readonly sasl?: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: Secret;
  };
}

/**
 * A message for each record, keyed by workload, so that a workload's are in one partition and in order; the event's id is a
 * header. Delivered once all in-sync replicas have it (acks=all).
 */
export class KafkaTopic implements Transport {
  readonly maxEntries = 2000;
  // a broker takes batches of 1 MiB by default
  readonly maxBytes = 900 << 10;
  readonly gatherMs = 100;
  readonly #options: KafkaOptions;
  #producer: Producer | undefined;

  constructor(options: KafkaOptions) {
    this.#options = options;
  }

  encode(record: BelayRecord): string {
    return this.#options.format(record);
  }

  async send(entries: readonly Entry[]): Promise<Outcome> {
    try {
      const producer = await this.#connected();
      const messages = entries.map(({ workload, id, payload }) => ({
        key: workload,
        value: payload,
        headers: { id },
      }));
      await producer.send({ topic: this.#options.topic, acks: -1, timeout: REQUEST_MS, messages });
      return NOTHING_REFUSED;
    } catch (error) {
      const cause = protocolError(error);
      if (cause && REFUSALS.includes(cause.code)) throw new Refused(cause.message);
      await this.#disconnect();
      throw error;
    }
  }

  async #connected(): Promise<Producer> {
    if (this.#producer !== undefined) return this.#producer;
    const { brokers, tls, sasl } = this.#options;
    const client = new kafkajs.Kafka({
      clientId: 'belay',
      brokers: [...brokers],
      logLevel: kafkajs.logLevel.NOTHING,
      connectionTimeout: 10_000,
      requestTimeout: REQUEST_MS + 5000,
      // the spool tries again, and knows better when
      retry: { retries: 0 },
      // each broker by its own name, which the library adds
      ssl: tls === undefined ? false : tlsOptions(tls),
      sasl: sasl && saslOptions(sasl),
    });
    const producer = client.producer({ allowAutoTopicCreation: false, retry: { retries: 0 } });
    this.#producer = producer;
    await producer.connect();
    return producer;
  }

  async #disconnect(): Promise<void> {
    const producer = this.#producer;
    this.#producer = undefined;
    await producer?.disconnect().catch(() => {});
  }

  close(): Promise<void> {
    return this.#disconnect();
  }
}

function saslOptions({ mechanism, username, password }: NonNullable<KafkaOptions['sasl']>): SASLOptions {
  return { mechanism, username, password: readSecret(password) };
}

/** The broker's own word behind the library's. */
function protocolError(error: unknown): KafkaJSProtocolError | undefined {
  for (let at = error; at instanceof Error; at = at.cause)
    if (at instanceof kafkajs.KafkaJSProtocolError) return at;
  return undefined;
}
