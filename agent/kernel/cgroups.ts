import { type Dirent, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CGROUP_ROOT } from '../workload/cgroup.js';
import { containerOfCgroup, podOfCgroup } from '../workload/cgroup-names.js';
import { type Place, placeKey, type Workload } from '../workload/model.js';
import type { Kernel } from './kernel.js';

/** Pods' cgroups lie at most so deep: slices for all pods, for a class of service, and the cgroup that kubelet was given. */
const POD_DEPTH = 6;

/** The service manager's, of which there are many, and no pods below. */
const NOT_PODS = new Set(['system.slice', 'user.slice', 'init.scope']);

/** Where a workload is: a path, or a place that the kernel finds by name. */
type Where = { readonly kind: 'cgroup'; readonly path: string } | Place;

interface Claim {
  readonly where: Where;
  readonly workload: number;
}

/**
 * Which cgroups belong to which workload. The kernel binds new cgroups by itself: by the pod or container that they
 * are named after, by their announced path, or by their parent. This tells it about those that exist, and looks again for
 * what it may have missed.
 */
export class CgroupBinder {
  readonly #kernel: Kernel;
  readonly #root: string;
  readonly #claims = new Map<string, Claim>();
  /** Paths of the cgroups of pods, by uid, as seen last. */
  readonly #pods = new Map<string, string>();
  /** The ids of containers of pods that an agent before this one announced, that nobody claims and that run on, by the pods' uids. */
  #left: Map<string, readonly string[]> | undefined;
  #host: number | undefined;
  #unknown: number | undefined;

  /** @param root where the hierarchy is mounted */
  constructor(kernel: Kernel, root = CGROUP_ROOT) {
    this.#kernel = kernel;
    this.#root = root;
  }

  /**
   * Takes what exists of them. All are announced before any is bound: a pod that is told after this is not unknown meanwhile.
   * Workloads' numbers are those of before where an agent before this one had claimed the same.
   */
  claim(claims: readonly (readonly [workload: Workload, id: number])[]): void {
    for (const [workload, id] of claims) this.#announce(whereOf(workload), id);
    this.look();
    this.#left ??= this.#findLeft();
    const pods = new Set<string>();
    for (const [workload, id] of claims) {
      const where = whereOf(workload);
      if (where.kind === 'cgroup') this.#bindTree(where.path, id);
      else if (where.kind === 'host') this.#bindTree(this.#root, id);
      else if ('uid' in where) pods.add(where.uid);
      else for (const uid of this.#pods.keys()) pods.add(uid);
    }
    for (const uid of pods) this.#bindPod(uid);
  }

  #announce(where: Where, id: number): void {
    this.#claims.set(keyOf(where), { where, workload: id });
    if ('uid' in where) this.#left?.delete(where.uid);
    if (where.kind === 'cgroup') this.#kernel.announceCgroup(this.#below(where.path), id);
    else if (where.kind === 'pod') this.#kernel.announcePod(where.uid, id);
    else if ('id' in where) this.#kernel.announceContainer(where.id, id);
    else if (where.kind === 'unknown') this.#kernel.unknownPods = this.#unknown = id;
    else this.#kernel.host = this.#host = id;
  }

  release(workload: Workload, id: number): void {
    const where = whereOf(workload);
    this.#claims.delete(keyOf(where));
    if (where.kind === 'cgroup') this.#kernel.withdrawCgroup(this.#below(where.path));
    else if (where.kind === 'pod') this.#kernel.withdrawPod(where.uid);
    else if ('id' in where) this.#kernel.withdrawContainer(where.id);
    else if (where.kind === 'unknown') this.#kernel.unknownPods = this.#unknown = 0;
    else this.#kernel.host = this.#host = 0;
    for (const cgroup of this.#kernel.boundCgroups()) {
      if (id !== 0 && this.#kernel.bindingOf(cgroup)?.workload === id) this.#kernel.unbindCgroup(cgroup);
    }
  }

  /** The directory of a container's cgroup; undefined = it is not there, or not known. */
  pathOf(workload: Workload): string | undefined {
    const where = whereOf(workload);
    if (where.kind === 'cgroup') return where.path;
    const pod = 'id' in where ? this.#podPath(where.uid) : undefined;
    if (pod === undefined || !('id' in where)) return undefined;
    const name = subdirectories(pod).find((each) => containerOfCgroup(each) === where.id);
    return name === undefined ? undefined : join(pod, name);
  }

  /** Whether a pod's or a container's cgroup is still there, whatever the API server says of it. */
  lingers(workload: Workload): boolean {
    const { place } = workload;
    if (place?.kind !== 'pod') return place !== undefined && this.pathOf(workload) !== undefined;
    return this.#runsOn(place.uid);
  }

  #runsOn(uid: string): boolean {
    const pod = this.#podPath(uid);
    return pod !== undefined && subdirectories(pod).length > 0;
  }

  #findLeft(): Map<string, readonly string[]> {
    const uids = [...this.#kernel.announcedPods().keys()];
    const left = uids.filter((uid) => !this.#claims.has(`pod:${uid}`) && this.#runsOn(uid));
    return new Map(
      left.map((uid) => {
        const names = subdirectories(this.#podPath(uid) ?? '');
        return [uid, names.map(containerOfCgroup).filter((id) => id !== undefined)];
      }),
    );
  }

  /** The number that pinned programs know a workload by. */
  previousOwner(workload: Workload): number | undefined {
    const where = whereOf(workload);
    if (where.kind === 'pod') return this.#kernel.announcedPods().get(where.uid);
    if ('id' in where) return this.#kernel.announcedContainers().get(where.id) || undefined;
    if (where.kind !== 'cgroup') return undefined;
    // also of a cgroup that is not there: it may have been since, and what happened there is still to be told
    const announced = this.#kernel.announcedOwner(this.#below(where.path));
    const id = cgroupId(where.path);
    return announced || (id === undefined ? undefined : this.#kernel.bindingOf(id)?.workload) || undefined;
  }

  /** Takes back what an agent before this one announced and nobody claims, unless it runs on. */
  forgetOthers(): void {
    const left = this.#left ?? new Map<string, readonly string[]>();
    const containers = new Set([...left.values()].flat());
    const paths = new Set(
      [...this.#claims.values()].flatMap(({ where }) =>
        where.kind === 'cgroup' ? this.#below(where.path) : [],
      ),
    );
    for (const path of this.#kernel.announcedCgroups().keys())
      if (!paths.has(path)) this.#kernel.withdrawCgroup(path);
    for (const uid of this.#kernel.announcedPods().keys())
      if (!this.#claims.has(`pod:${uid}`) && !left.has(uid)) this.#kernel.withdrawPod(uid);
    for (const id of this.#kernel.announcedContainers().keys())
      if (!this.#claims.has(`container:${id}`) && !containers.has(id)) this.#kernel.withdrawContainer(id);
  }

  /**
   * A pod's or a container's cgroup was made.
   * @param path below the hierarchy's root
   * @returns true if it was bound anew
   */
  made(path: string): boolean {
    const uid = podOfCgroup(basename(path)) ?? podOfCgroup(basename(dirname(path)));
    if (uid === undefined) return false;
    this.#pods.set(uid, join(this.#root, podOfCgroup(basename(path)) === undefined ? dirname(path) : path));
    return this.#bindPod(uid);
  }

  /** @returns true if a cgroup was found that was not bound */
  refresh(): boolean {
    let found = this.#scan();
    for (const [uid, containers] of this.#left ?? []) {
      if (this.#runsOn(uid)) continue;
      this.#left?.delete(uid);
      this.#kernel.withdrawPod(uid);
      for (const id of containers) this.#kernel.withdrawContainer(id);
    }
    for (const { where, workload } of this.#claims.values()) {
      if (where.kind === 'cgroup') found = this.#bindTree(where.path, workload) || found;
    }
    if (this.#host) found = this.#bindTree(this.#root, this.#host) || found;
    return found;
  }

  /** Looks where pods' cgroups are, as one that was made just now may not have been told of. */
  look(): void {
    const visit = (path: string, depth: number) => {
      for (const name of subdirectories(path)) {
        const uid = podOfCgroup(name);
        if (uid !== undefined) this.#pods.set(uid, join(path, name));
        else if (depth > 1 && !(path === this.#root && NOT_PODS.has(name)))
          visit(join(path, name), depth - 1);
      }
    };
    this.#pods.clear();
    if (this.#unknown) visit(this.#root, POD_DEPTH);
  }

  #scan(): boolean {
    this.look();
    let found = false;
    for (const uid of this.#pods.keys()) found = this.#bindPod(uid) || found;
    return found;
  }

  #podPath(uid: string): string | undefined {
    const known = this.#pods.get(uid);
    if (known !== undefined && cgroupId(known) !== undefined) return known;
    return undefined;
  }

  #bindPod(uid: string): boolean {
    const path = this.#podPath(uid);
    if (path === undefined || this.#left?.has(uid)) return false;
    const pod = this.#claims.get(`pod:${uid}`)?.workload ?? this.#unknown;
    if (!pod) return false;
    let found = this.#bind(path, pod, true);
    for (const name of subdirectories(path)) {
      const id = containerOfCgroup(name);
      const child = join(path, name);
      const claim = id === undefined ? undefined : this.#claims.get(`container:${id}`);
      if (claim !== undefined) found = this.#bindTree(child, claim.workload) || found;
      // the kernel has seen that it is nobody's, if it was there to see it
      else if (this.#bindingOf(child)?.workload !== 0) found = this.#bindTree(child, pod) || found;
    }
    return found;
  }

  /** As the kernel calls it. */
  #below(path: string): string {
    return path === this.#root ? '/' : path.slice(this.#root.length);
  }

  #bindingOf(path: string) {
    const id = cgroupId(path);
    return id === undefined ? undefined : this.#kernel.bindingOf(id);
  }

  #bind(path: string, workload: number, pod: boolean): boolean {
    const id = cgroupId(path);
    if (id === undefined) return false;
    const before = this.#kernel.bindingOf(id);
    if (before?.workload === workload && before.pod === pod) return false;
    this.#kernel.bindCgroup(id, { workload, pod });
    return true;
  }

  #bindTree(path: string, workload: number): boolean {
    let found = path === this.#root && workload !== this.#host ? false : this.#bind(path, workload, false);
    for (const name of subdirectories(path)) {
      const child = join(path, name);
      if (this.#claims.has(child) || (this.#unknown && podOfCgroup(name) !== undefined)) continue;
      found = this.#bindTree(child, workload) || found;
    }
    return found;
  }
}

function whereOf(workload: Workload): Where {
  return workload.place ?? { kind: 'cgroup', path: workload.cgroup };
}

function keyOf(where: Where): string {
  return where.kind === 'cgroup' ? where.path : placeKey(where);
}

function subdirectories(path: string): string[] {
  let entries: Dirent[];
  try {
    // each has a link to it, and reading the names of a cgroup's dozens of files takes long
    if (statSync(path).nlink === 2) return [];
    entries = readdirSync(path, { withFileTypes: true });
  } catch {
    return []; // it went away meanwhile
  }
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

/** A cgroup v2 directory's inode number is the id that the programs see; undefined = it does not exist. */
function cgroupId(path: string): bigint | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}
