import { type Dirent, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Kernel } from './kernel.js';

const ROOT = '/sys/fs/cgroup';

/**
 * Which cgroups belong to which workload. The kernel binds new cgroups by itself, by their announced path or
 * by their parent; this tells it about those that exist, and looks again for what it may have missed.
 */
export class CgroupBinder {
  readonly #kernel: Kernel;
  readonly #claims = new Map<string, number>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  claim(path: string, workload: number): void {
    this.#claims.set(path, workload);
    this.#kernel.announceCgroup(below(path), workload);
    this.#bindTree(path, workload);
  }

  release(path: string, workload: number): void {
    this.#claims.delete(path);
    this.#kernel.withdrawCgroup(below(path));
    for (const id of this.#kernel.boundCgroups()) {
      if (this.#kernel.workloadOfCgroup(id) === workload) this.#kernel.unbindCgroup(id);
    }
  }

  /** The number that pinned programs know a cgroup's workload by. */
  previousOwner(path: string): number | undefined {
    const id = cgroupId(path);
    return id === undefined ? undefined : this.#kernel.workloadOfCgroup(id);
  }

  /** @returns true if a cgroup was found that was not bound */
  refresh(): boolean {
    let found = false;
    for (const [path, workload] of this.#claims) found = this.#bindTree(path, workload) || found;
    return found;
  }

  #bindTree(path: string, workload: number): boolean {
    const id = cgroupId(path);
    if (id === undefined) return false;
    let found = false;
    if (this.#kernel.workloadOfCgroup(id) !== workload) {
      this.#kernel.bindCgroup(id, workload);
      found = true;
    }
    let entries: Dirent[];
    try {
      entries = readdirSync(path, { withFileTypes: true });
    } catch {
      return found; // it went away meanwhile
    }
    for (const entry of entries) {
      const child = join(path, entry.name);
      if (entry.isDirectory() && !this.#claims.has(child)) found = this.#bindTree(child, workload) || found;
    }
    return found;
  }
}

/** A cgroup v2 directory's inode number is the id that the programs see; undefined = it does not exist. */
function cgroupId(path: string): bigint | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}

/** As the kernel calls it. */
function below(path: string): string {
  return path === ROOT ? '/' : path.slice(ROOT.length);
}
