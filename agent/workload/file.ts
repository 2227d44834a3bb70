import { posix } from 'node:path';
import { isScalar, type Node } from 'yaml';
import { asText, Fields, short } from '../policy/fields.js';
import type { Diagnostic } from '../policy/model.js';
import { byPosition } from '../policy/read.js';
import { Exhausted, MAX_FILE_BYTES, Source } from '../policy/source.js';
import { cgroupFault } from './cgroup.js';
import type { Workload } from './model.js';

export interface WorkloadFile {
  /** Those that have no fault. Whoever must not act on half a list looks for errors first. */
  readonly workloads: readonly Workload[];
  /** Path of containerd's socket: its containers are workloads too. */
  readonly containerd?: string;
  /** In the order of the text. */
  readonly diagnostics: readonly Diagnostic[];
}

/** `sun_path` of unix(7), less the NUL. */
const MAX_SOCKET_BYTES = 107;

/** What Kubernetes and containerd allow in names of pods and containers. */
const NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const NAMESPACE = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

const ADVICE = 'write workloads: [{name: web-1, labels: {app: web}, cgroup: /sys/fs/cgroup/...}]';

/**
 * Reads the list of workloads. Pure, and never throws: every fault becomes a diagnostic at the line and column of the
 * field or value concerned.
 *
 * `name` and `cgroup` are required. `namespace` is `default` unless given, `labels` none, `image` not known, and
 * `container` the same as `name`, as with a container of containerd's that belongs to no pod.
 */
export function readWorkloads(text: string, file: string): WorkloadFile {
  if (text.length > MAX_FILE_BYTES) return { workloads: [], diagnostics: [workloadsTooLong(file)] };
  const source = new Source(text, file);
  const document = source.documents.find(({ contents, errors }) => contents !== null || errors.length > 0);
  let read: Omit<WorkloadFile, 'diagnostics'> = { workloads: [] };
  if (document === undefined) {
    if (!source.unreadable) source.error(0, `the file names no workloads; ${ADVICE}`);
  } else if (!source.documents.map((each) => source.reportSyntax(each)).includes(true)) {
    const root = document.contents;
    try {
      source.enter(document);
      for (const other of source.documents)
        if (other !== document && other.contents !== null)
          source.error(other.contents, 'a second document; the file holds one list, so join the two');
      if (root !== null) read = readRoot(source, root);
    } catch (error) {
      if (!(error instanceof Exhausted)) throw error;
      source.error(root ?? 0, 'the aliases expand without end; write out what they stand for');
      read = { workloads: [] };
    }
  }
  return { ...read, diagnostics: source.diagnostics.toSorted(byPosition) };
}

/** The fault of a file that is longer than is read. */
export function workloadsTooLong(file: string): Diagnostic {
  const message = 'the file is longer than 1 MiB, so it is not read; is it the list of workloads?';
  return { at: { file, line: 1, column: 1 }, severity: 'error', message };
}

function readRoot(source: Source, node: Node): Omit<WorkloadFile, 'diagnostics'> {
  const contents = source.resolve(node);
  if (contents === null) {
    source.error(node, `the file names no workloads; ${ADVICE}`);
    return { workloads: [] };
  }
  const root = Fields.of(source, contents, 'the workloads file', contents);
  if (root === undefined) return { workloads: [] };
  root.allow(['workloads', 'containerd']);
  if (!root.has('workloads') && !root.has('containerd'))
    source.error(root.node, `the file names no workloads; ${ADVICE}, or containerd: SOCKET`);
  const containerd = readSocket(root);
  const seen = new Seen(source);
  const workloads = root.list('workloads', 'workloads').flatMap((item) => readWorkload(item, seen) ?? []);
  return containerd === undefined ? { workloads } : { workloads, containerd };
}

function readSocket(root: Fields): string | undefined {
  const node = root.value('containerd');
  const path = node && asText(root.source, node, 'containerd');
  if (node === undefined || path === undefined) return undefined;
  const shown = short(path);
  const fault = (what: string) => root.source.error(node, `containerd "${shown}" ${what}`);
  if (path.startsWith('unix:'))
    fault(`is an address; write its path alone: ${short(path.replace(/^unix:(\/\/)?/, ''))}`);
  else if (!path.startsWith('/'))
    fault('is not an absolute path; write that of its socket, /run/containerd/containerd.sock');
  else if (path.endsWith('/') || path.includes('\0'))
    fault('cannot be a socket; write the path of one, /run/containerd/containerd.sock');
  else if (Buffer.byteLength(path) > MAX_SOCKET_BYTES)
    fault(`is longer than a socket's path can be (${MAX_SOCKET_BYTES} bytes); use a shorter one`);
  else return posix.normalize(path);
  return undefined;
}

function readWorkload(item: Fields, seen: Seen): Workload | undefined {
  const before = item.source.errors;
  item.allow(['namespace', 'name', 'labels', 'container', 'cgroup', 'image'], {
    pod: 'the name of the pod is its name',
    containerId: 'the cgroup says which container it is',
    cgroupsPath: 'write cgroup: /sys/fs/cgroup/...',
  });
  const namespace =
    readName(item, 'namespace', NAMESPACE, 63, 'lower-case letters, digits and "-" (at most 63)') ??
    'default';
  const named = item.required('name', 'write name: and that of the pod');
  const letters = 'letters, digits, "-", "_" and "." (at most 253)';
  const name = named && readName(item, 'name', NAME, 253, letters);
  const container = readName(item, 'container', NAME, 253, letters) ?? name;
  const labels = readLabels(item);
  const image = item.text('image') ?? '';
  const cgroup = readCgroup(item, seen);
  if (name !== undefined && container !== undefined) seen.workload(item, namespace, name, container);
  if (name === undefined || container === undefined || cgroup === undefined) return undefined;
  if (item.source.errors > before) return undefined;
  return { namespace, name, labels, container, containerId: '', image, cgroup };
}

function readName(
  item: Fields,
  field: string,
  form: RegExp,
  most: number,
  letters: string,
): string | undefined {
  const node = item.value(field);
  const name = node && asText(item.source, node, `${item.what}.${field}`);
  if (node === undefined || name === undefined) return undefined;
  if (name.length <= most && form.test(name)) return name;
  const what = name === '' ? `${item.what}.${field} is empty` : `${item.what}.${field} "${short(name)}"`;
  item.source.error(
    node,
    name === '' ? `${what}; write a name` : `${what} is not a valid name; use ${letters}`,
  );
  return undefined;
}

function readLabels(item: Fields): ReadonlyMap<string, string> {
  const labels = new Map<string, string>();
  for (const { name, key, value } of item.fields('labels')?.entries() ?? []) {
    if (name === '')
      item.source.error(key, `a label of ${item.what} has no name; write one before the colon`);
    // A label may have an empty value, and nothing after the colon is one.
    const text = value === null ? '' : asText(item.source, value, `the label ${short(name)}`);
    if (text !== undefined) labels.set(name, text);
  }
  return labels;
}

function readCgroup(item: Fields, seen: Seen): string | undefined {
  const node = item.required('cgroup', 'write cgroup: /sys/fs/cgroup/... and the rest of its path');
  if (node === undefined) return undefined;
  const path = asText(item.source, node, `${item.what}.cgroup`);
  if (path === undefined) return undefined;
  const fault = path === '' ? 'is empty; write /sys/fs/cgroup/...' : cgroupFault(path);
  if (fault === undefined) return seen.cgroup(item, node, path);
  item.source.error(node, `${item.what}.cgroup${path === '' ? '' : ` "${short(path)}"`} ${fault}`);
  return undefined;
}

/** What stands in the list so far: one container has one cgroup, and a cgroup one owner. */
class Seen {
  readonly #source: Source;
  readonly #workloads = new Map<string, Fields>();
  readonly #cgroups = new Map<string, Fields>();

  constructor(source: Source) {
    this.#source = source;
  }

  workload(item: Fields, namespace: string, name: string, container: string): void {
    const key = `${namespace}\0${name}\0${container}`;
    const first = this.#workloads.get(key);
    if (first === undefined) {
      this.#workloads.set(key, item);
      return;
    }
    const node = item.entry('name')?.value ?? item.node;
    const which = `${namespace}/${name}, container ${container},`;
    this.#source.error(node, `${which} stands twice, ${this.#where(first)}; rename or remove one`);
  }

  /** The path, if it is nobody's yet. */
  cgroup(item: Fields, node: Node, path: string): string | undefined {
    const first = this.#cgroups.get(path);
    if (first === undefined) {
      this.#cgroups.set(path, item);
      return path;
    }
    this.#source.error(
      node,
      `${item.what}.cgroup is another workload's already, ${this.#where(first)}; a cgroup has one owner`,
    );
    return undefined;
  }

  #where(first: Fields): string {
    const node = first.entry('name')?.key ?? first.node;
    return `first as ${first.what} on line ${this.#source.at(isScalar(node) ? node : first.node).line}`;
  }
}
