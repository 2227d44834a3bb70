import { isDeepStrictEqual } from 'node:util';
import type { KubeApi } from './api.js';
import { ListWatch } from './list-watch.js';

export interface NodeFacts {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
}

export interface NodeOptions {
  readonly api: KubeApi;
  readonly node: string;
  readonly onChange: (node: NodeFacts) => void;
}

/** The node that the agent runs on, of which only the metadata is asked for. One without an object has no labels. */
export class OwnNode {
  readonly #watch: ListWatch<NodeFacts>;
  #facts: NodeFacts;

  constructor({ api, node, onChange }: NodeOptions) {
    this.#facts = { name: node, labels: new Map() };
    this.#watch = new ListWatch<NodeFacts>({
      api,
      path: '/api/v1/nodes',
      fieldSelector: `metadata.name=${node}`,
      metadataOnly: true,
      select: ({ metadata }, before) => {
        const facts = { name: node, labels: new Map(Object.entries(metadata.labels ?? {})) };
        return isDeepStrictEqual(facts, before) ? (before ?? facts) : facts;
      },
      onChange: (changes) => {
        for (const change of changes) if (change.type !== 'deleted') this.#facts = change.value;
        onChange(this.#facts);
      },
    });
  }

  get synced(): Promise<void> {
    return this.#watch.synced;
  }

  get facts(): NodeFacts {
    return this.#facts;
  }

  close(): void {
    this.#watch.close();
  }
}
