import { isDeepStrictEqual } from 'node:util';
import type { KubeApi } from './api.js';
import { ListWatch, type Timing } from './list-watch.js';

/** What is known of a namespace. */
export interface NamespaceFacts {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
}

export interface NamespacesOptions {
  readonly api: KubeApi;
  /** Something has changed. Namespaces that have not are the same objects as before. */
  readonly onChange: (namespaces: ReadonlyMap<string, NamespaceFacts>) => void;
  readonly timing?: Partial<Timing>;
}

/** All namespaces by name, of which only the metadata is asked for. */
export class Namespaces {
  readonly #watch: ListWatch<NamespaceFacts>;
  readonly #namespaces = new Map<string, NamespaceFacts>();

  constructor({ api, onChange, timing }: NamespacesOptions) {
    this.#watch = new ListWatch<NamespaceFacts>({
      api,
      path: '/api/v1/namespaces',
      metadataOnly: true,
      timing,
      select: ({ metadata }, before) => {
        const facts: NamespaceFacts = {
          name: metadata.name,
          labels: new Map(Object.entries(metadata.labels ?? {})),
          annotations: new Map(Object.entries(metadata.annotations ?? {})),
        };
        return isDeepStrictEqual(facts, before) ? (before ?? facts) : facts;
      },
      onChange: (changes) => {
        for (const change of changes) {
          if (change.type === 'deleted') this.#namespaces.delete(change.before.name);
          else this.#namespaces.set(change.value.name, change.value);
        }
        onChange(this.#namespaces);
      },
    });
  }

  /** Resolves when they have been listed once and told. */
  get synced(): Promise<void> {
    return this.#watch.synced;
  }

  get namespaces(): ReadonlyMap<string, NamespaceFacts> {
    return this.#namespaces;
  }

  close(): void {
    this.#watch.close();
  }
}
