import { type BigIntStats, type FSWatcher, readdirSync, realpathSync, statSync, watch } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/** Changes that come together are one; a file that is never left alone is looked at this often, in milliseconds. */
const QUIET_MS = 50;
const LATEST_MS = 500;

/** For what inotify does not tell: bind mounts, network file systems, links further up, watches used up. */
const POLL_MS = 2000;

/**
 * Calls `onChange` soon after something at `path` changed: a file, or the files in a directory and those below it
 * (names with a leading dot do not count). It may not exist yet, vanish and come back, be replaced by a rename, or
 * be reached by symbolic links that are swapped, as a mounted ConfigMap's are. There is one call shortly after the
 * start, for what changed between the caller's first reading and now; and there may be calls without a change, so
 * the caller compares contents.
 */
export function watchPath(path: string, onChange: () => void): { close(): void } {
  const watcher = new PathWatcher(resolve(path), onChange);
  return { close: () => watcher.close() };
}

class PathWatcher {
  readonly #path: string;
  readonly #onChange: () => void;
  readonly #poll: NodeJS.Timeout;
  /** By directory; `id` tells whether it is still the one that is watched. */
  readonly #watchers = new Map<string, { readonly id: string; readonly watcher: FSWatcher }>();
  #state = '';
  #names: ReadonlySet<string> = new Set();
  /** Something surely changed, whatever times and sizes say. */
  #hit = true;
  #timer: NodeJS.Timeout | undefined;
  #since = 0;
  #closed = false;

  constructor(path: string, onChange: () => void) {
    this.#path = path;
    this.#onChange = onChange;
    this.#poll = setInterval(() => this.#look(), POLL_MS);
    this.#state = this.#survey();
    this.#soon();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#poll);
    clearTimeout(this.#timer);
    for (const { watcher } of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #soon(): void {
    if (this.#closed) return;
    const now = performance.now();
    if (this.#timer === undefined) this.#since = now;
    clearTimeout(this.#timer);
    const left = this.#since + LATEST_MS - now;
    this.#timer = setTimeout(() => this.#look(), Math.max(0, Math.min(QUIET_MS, left)));
  }

  #look(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const state = this.#survey();
    const changed = this.#hit || state !== this.#state;
    this.#state = state;
    this.#hit = false;
    if (changed) this.#onChange();
  }

  /** What is there, in short; and sees to it that all directories concerned are watched. */
  #survey(): string {
    const directories = new Map<string, BigIntStats>();
    const above = new Set([dirname(this.#path)]);
    try {
      above.add(dirname(realpathSync(this.#path)));
      this.#names = new Set([basename(this.#path), basename(realpathSync(this.#path))]);
    } catch {
      this.#names = new Set([basename(this.#path)]);
    }
    const lines: string[] = [];
    walk(this.#path, directories, lines);
    const inside = new Set(directories.keys());
    for (const directory of above) {
      const found = stat(directory);
      if (found?.isDirectory()) directories.set(directory, found);
    }
    this.#watch(directories, inside);
    return lines.join('\n');
  }

  #watch(directories: ReadonlyMap<string, BigIntStats>, inside: ReadonlySet<string>): void {
    for (const [directory, { id, watcher }] of this.#watchers) {
      const found = directories.get(directory);
      if (found !== undefined && identity(found) === id) continue;
      watcher.close();
      this.#watchers.delete(directory);
    }
    for (const [directory, found] of directories) {
      if (this.#watchers.has(directory)) continue;
      try {
        const watcher = watch(directory, (_, name) => {
          const ours = inside.has(directory) ? !name?.startsWith('.') : this.#names.has(name ?? '');
          if (ours || name === null) this.#hit = true;
          this.#soon();
        });
        watcher.on('error', () => this.#drop(directory, watcher));
        this.#watchers.set(directory, { id: identity(found), watcher });
        // What happened in a new directory before it was watched has not been told.
        if (inside.has(directory)) this.#soon();
      } catch {
        // it went away, or there are too many watches: the poll sees to it
      }
    }
  }

  #drop(directory: string, watcher: FSWatcher): void {
    watcher.close();
    if (this.#watchers.get(directory)?.watcher === watcher) this.#watchers.delete(directory);
    this.#soon();
  }
}

function walk(path: string, directories: Map<string, BigIntStats>, lines: string[]): void {
  const found = stat(path);
  if (found === undefined) return;
  if (!found.isDirectory()) {
    lines.push(`${path} ${identity(found)} ${found.size} ${found.mtimeNs} ${found.ctimeNs}`);
    return;
  }
  directories.set(path, found);
  lines.push(`${path} ${identity(found)}`);
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const below = join(path, entry.name);
      // A link to a directory is not followed: it may lead anywhere.
      if (entry.name.startsWith('.') || (entry.isSymbolicLink() && stat(below)?.isDirectory())) continue;
      walk(below, directories, lines);
    }
  } catch {
    lines.push(`${path} unreadable`);
  }
}

function stat(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function identity(found: BigIntStats): string {
  return `${found.dev}:${found.ino}`;
}
