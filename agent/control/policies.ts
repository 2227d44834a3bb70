import type { Logger } from 'pino';
import { keepLastGood } from '../policy/last-good.js';
import type { Diagnostic, Policy, PolicyKind, Postures } from '../policy/model.js';
import { readPolicies } from '../policy/read.js';
import { KINDS } from '../policy/vocabulary.js';
import type { KubeApi, KubeObject } from './api.js';
import { LastGood, type Version } from './last-good.js';
import { ListWatch, type Timing } from './list-watch.js';

export interface PolicyRef {
  readonly apiVersion: string;
  readonly kind: PolicyKind;
  /** Absent for kinds that have none. */
  readonly namespace?: string;
  readonly name: string;
  readonly uid: string;
  /** Of the version that the state speaks of. */
  readonly generation: number;
}

/** A diagnostic of an object: `at` counts in the JSON that was read, which nobody wrote, so the field is named. */
export interface FieldDiagnostic extends Diagnostic {
  /** Such as `spec.process.matchPaths[0].path`; empty where it is the whole object. */
  readonly field: string;
}

/** What became of a policy object's latest version on this node. Replaced, never changed. */
export interface PolicyState {
  readonly ref: PolicyRef;
  /** The latest version is good. Otherwise `diagnostics` say why not, and the last good one is in force. */
  readonly accepted: boolean;
  /** Of the version in force: the latest if it is good, else the last good one that is known, if any. */
  readonly generationInForce?: number;
  /** Of the latest version; warnings too. */
  readonly diagnostics: readonly FieldDiagnostic[];
}

export interface ClusterPoliciesOptions {
  readonly api: KubeApi;
  readonly log: Logger;
  /** With which a policy is tried. */
  readonly postures: Postures;
  /**
   * `policies` or `states` have changed: first when all kinds are known, then some time after each change, once for
   * changes that come together.
   */
  readonly onChange: () => void;
  readonly timing?: Partial<Timing>;
  /** Directory where the objects' last good versions outlive the agent; without it they do not. */
  readonly directory?: string;
}

/**
 * Changes that come together are one; while they go on, this is how long they are collected, or as long as the last took to be put
 * in force: many that come fast would otherwise be put in force a few at a time. In milliseconds.
 */
const QUIET_MS = 50;
const LATEST_MS = 250;

/** Where the objects of a kind are, in all namespaces. */
export function collectionOf(kind: PolicyKind): string {
  return `/apis/${KINDS[kind].api}/${pluralOf(kind)}`;
}

const pluralOf = (kind: PolicyKind) => kind.toLowerCase().replace(/y$/, 'ies');

/**
 * The policies of a cluster: the objects of all kinds whose definitions (CRDs) are there, now or later. Of an object whose
 * latest version is bad, the last good one stays in force. Only the API server's word that an object or a
 * definition is gone takes policies away; its silence does not.
 */
export class ClusterPolicies {
  /** Resolves when all kinds are known, be it that they are not there. */
  readonly synced: Promise<void>;
  readonly #options: ClusterPoliciesOptions;
  readonly #kinds: readonly KindWatch[];
  /** Of all that is known by now; `states` are those that were told. */
  readonly #latest = new Map<string, PolicyState>();
  readonly #lastGood: LastGood | undefined;
  #policies: readonly Policy[] = [];
  #states: ReadonlyMap<string, PolicyState> = new Map();
  #ready = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #since = 0;
  /** How long the last `onChange` took, ms. */
  #took = 0;

  constructor(options: ClusterPoliciesOptions) {
    this.#options = options;
    const { directory, log } = options;
    this.#lastGood = directory === undefined ? undefined : new LastGood(directory, log);
    const kinds = Object.keys(KINDS) as PolicyKind[];
    this.#kinds = kinds.map(
      (kind) => new KindWatch(kind, options, this.#lastGood, (changes) => this.#take(changes)),
    );
    this.synced = Promise.all(this.#kinds.map(({ known }) => known)).then(() => {
      this.#ready = true;
      // those of objects that went while no agent ran
      for (const uid of this.#lastGood?.uids ?? []) if (!this.#latest.has(uid)) this.#lastGood?.delete(uid);
      this.#tell();
    });
  }

  /** What is to be enforced, as `onChange` last told. A policy that has not changed is the same object as before. */
  get policies(): readonly Policy[] {
    return this.#policies;
  }

  /**
   * By the objects' UIDs, all that exist, accepted or not; as `onChange` last told, for a newer version than that of
   * `policies` would pass for enforced.
   */
  get states(): ReadonlyMap<string, PolicyState> {
    return this.#states;
  }

  /** Nothing is told afterwards. Resolves when the last good versions are on the disk. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const kind of this.#kinds) kind.close();
    await this.#lastGood?.written();
  }

  #take(changes: Changes): void {
    for (const [uid, held] of changes) {
      if (held === undefined) this.#latest.delete(uid);
      else {
        this.#latest.set(uid, held.state);
        this.#log(held.state);
      }
      if (held === undefined) this.#lastGood?.delete(uid);
      else if (held.good !== undefined) this.#lastGood?.set(uid, held.good);
    }
    if (!this.#ready) return;
    const now = performance.now();
    if (this.#timer === undefined) this.#since = now;
    clearTimeout(this.#timer);
    const left = this.#since + Math.max(LATEST_MS, this.#took) - now;
    this.#timer = setTimeout(() => this.#tell(), Math.max(0, Math.min(QUIET_MS, left)));
  }

  #tell(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#policies = this.#kinds.flatMap(({ held }) =>
      [...held.values()].flatMap(({ policies }) => policies),
    );
    this.#states = new Map(this.#latest);
    const before = performance.now();
    this.#options.onChange();
    this.#took = performance.now() - before;
  }

  #log({ ref, accepted, generationInForce, diagnostics }: PolicyState): void {
    const { log } = this.#options;
    const policy = nameOf(ref);
    for (const { severity, field, message } of diagnostics) {
      const level = severity === 'error' ? 'error' : 'warn';
      log[level]({ policy, generation: ref.generation, field }, `${field && `${field}: `}${message}`);
    }
    if (accepted) return;
    const instead = generationInForce === undefined ? 'none' : `generation ${generationInForce}`;
    log.error({ policy, generation: ref.generation, inForce: instead }, 'the policy is rejected');
  }
}

/** What is kept of a policy object. */
interface Held {
  readonly state: PolicyState;
  /** What was read. */
  readonly text: string;
  /** The version in force, if any. */
  readonly good: Version | undefined;
  /** In force: one, or none. */
  readonly policies: readonly Policy[];
}

/** By UID; undefined = the object is gone. */
type Changes = ReadonlyMap<string, Held | undefined>;

/** The objects of one kind, if there is such a kind. */
class KindWatch {
  /** Resolves when they have been listed, or there is no such kind. */
  readonly known: Promise<void>;
  readonly held = new Map<string, Held>();
  readonly #kind: PolicyKind;
  readonly #options: ClusterPoliciesOptions;
  readonly #lastGood: LastGood | undefined;
  readonly #onChange: (changes: Changes) => void;
  #settle: () => void = () => {};
  #objects: ListWatch<Held> | undefined;
  /** Watched only while there are no objects to watch. */
  #definition: ListWatch<string> | undefined;

  constructor(
    kind: PolicyKind,
    options: ClusterPoliciesOptions,
    lastGood: LastGood | undefined,
    onChange: (changes: Changes) => void,
  ) {
    this.#kind = kind;
    this.#options = options;
    this.#lastGood = lastGood;
    this.#onChange = onChange;
    this.known = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#watchObjects();
  }

  close(): void {
    this.#objects?.close();
    this.#definition?.close();
  }

  #watchObjects(): void {
    const { api, postures, timing } = this.#options;
    this.#objects = new ListWatch<Held>({
      api,
      path: collectionOf(this.#kind),
      timing,
      select: (object, before) =>
        hold(object, this.#kind, before, this.#lastGood?.get(object.metadata.uid), postures),
      onChange: (changes) => {
        for (const change of changes) {
          if (change.type === 'deleted') this.held.delete(change.uid);
          else this.held.set(change.uid, change.value);
        }
        this.#onChange(
          new Map(changes.map((each) => [each.uid, each.type === 'deleted' ? undefined : each.value])),
        );
      },
      onListed: () => {
        this.#definition?.close();
        this.#definition = undefined;
        this.#settle();
      },
      onMissing: () => this.#watchDefinition(),
    });
  }

  /**
   * A server that has just started does not serve the kinds of definitions that it has yet to read, so the word that
   * counts is that of the definitions themselves. Each is asked for by name: that is little, and little to be allowed.
   */
  #watchDefinition(): void {
    if (this.#definition !== undefined) return;
    const { api, timing } = this.#options;
    const group = KINDS[this.#kind].api.split('/')[0];
    let there = false;
    this.#definition = new ListWatch<string>({
      api,
      path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
      fieldSelector: `metadata.name=${pluralOf(this.#kind)}.${group}`,
      metadataOnly: true,
      timing,
      select: ({ metadata }) => metadata.resourceVersion,
      onChange: (changes) => {
        there = changes.at(-1)?.type !== 'deleted';
        if (!there) this.#gone();
        else if (this.#objects === undefined) this.#watchObjects();
        else this.#objects.retry();
      },
      onListed: () => {
        if (!there) this.#gone();
      },
    });
  }

  #gone(): void {
    this.#objects?.close();
    this.#objects = undefined;
    const gone = [...this.held.keys()];
    this.held.clear();
    if (gone.length > 0) this.#onChange(new Map(gone.map((uid) => [uid, undefined])));
    this.#settle();
  }
}

/** @param kept its last good version, where an agent before this one has kept that */
function hold(
  object: KubeObject,
  kind: PolicyKind,
  before: Held | undefined,
  kept: Version | undefined,
  postures: Postures,
): Held {
  const { name, namespace, uid, generation = 0 } = object.metadata;
  // labels and status change without it
  if (before !== undefined && generation !== 0 && before.state.ref.generation === generation) return before;
  const apiVersion = KINDS[kind].api;
  const ref: PolicyRef = { apiVersion, kind, ...(namespace && { namespace }), name, uid, generation };
  const said = { apiVersion, kind, metadata: { name, namespace }, spec: object.spec };
  // JSON is YAML; a line for each field, so that lines tell fields
  const text = JSON.stringify(said, undefined, 1);
  if (before?.text === text) {
    const { accepted, diagnostics } = before.state;
    const good = accepted ? { generation, text } : before.good;
    return { ...before, good, state: stateOf(ref, accepted, good?.generation, diagnostics) };
  }
  const fresh = settle(ref, text, before, postures);
  if (before !== undefined || kept === undefined || fresh.state.accepted) return fresh;
  // as if this agent had seen it
  const good = settle({ ...ref, generation: kept.generation }, kept.text, undefined, postures);
  return good.state.accepted ? settle(ref, text, good, postures) : fresh;
}

function settle(ref: PolicyRef, text: string, before: Held | undefined, postures: Postures): Held {
  const settled = keepLastGood(readPolicies(text, nameOf(ref)), before?.policies ?? [], postures);
  const accepted = !settled.diagnostics.some(({ severity }) => severity === 'error');
  const fields = settled.diagnostics.length > 0 ? fieldsOfLines(JSON.parse(text)) : [];
  const diagnostics = settled.diagnostics.map((each) => ({ ...each, field: fields[each.at.line - 1] ?? '' }));
  const good = accepted ? { generation: ref.generation, text } : before?.good;
  return {
    ...{ text, good, policies: settled.policies },
    state: stateOf(ref, accepted, good?.generation, diagnostics),
  };
}

function stateOf(
  ref: PolicyRef,
  accepted: boolean,
  generationInForce: number | undefined,
  diagnostics: readonly FieldDiagnostic[],
): PolicyState {
  return { ref, accepted, ...(generationInForce !== undefined && { generationInForce }), diagnostics };
}

/** As the diagnostics of its policies name the file. */
export const nameOf = ({ kind, namespace, name }: PolicyRef) =>
  [kind, namespace, name].filter(Boolean).join('/');

/** The field that each line of indented JSON speaks of: a bracket of the one that it belongs to. */
export function fieldsOfLines(value: unknown, field = ''): string[] {
  if (typeof value !== 'object' || value === null) return [field];
  const inner = Array.isArray(value)
    ? value.map((item, i) => fieldsOfLines(item, `${field}[${i}]`))
    : Object.entries(value).map(([key, item]) => fieldsOfLines(item, field === '' ? key : `${field}.${key}`));
  return inner.length === 0 ? [field] : [field, ...inner.flat(), field];
}
