import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { MAX_FILE_BYTES } from './source.js';

/** Where policies come from: the files of a directory, and their bytes. */

/**
 * The policy files of a directory and those below it, sorted; names with a leading dot are passed over, as are
 * links to directories (so a mounted ConfigMap's files are seen once).
 * @throws the file system's error when the directory cannot be read
 */
export function policyFiles(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(directory, entry.name);
      if (entry.name.startsWith('.')) return [];
      if (entry.isDirectory()) return policyFiles(path);
      return /\.(ya?ml|json)$/i.test(entry.name) ? [path] : [];
    });
}

/** What was to be read is no file. */
class NoFile extends Error {}

/**
 * A file's bytes, or of a longer file some `MAX_FILE_BYTES + 1` bytes, which are too many for `decodePolicyFile`:
 * a huge file costs nothing to refuse.
 * @throws the file system's error, or another where there is a pipe, socket or device: whoever opens a pipe waits until
 * somebody writes to it
 */
export function readPolicyBytes(path: string): Uint8Array {
  const found = statSync(path);
  if (!found.isFile() && !found.isDirectory()) throw new NoFile(`${path} is no file`);
  return readNamedBytes(path);
}

/** The same of what somebody names who waits for it: it may be a pipe. */
export function readNamedBytes(path: string): Uint8Array {
  const fd = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(MAX_FILE_BYTES + 1);
    if (fstatSync(fd).size > MAX_FILE_BYTES) return buffer;
    let length = 0;
    while (length < buffer.length) {
      const got = readSync(fd, buffer, length, buffer.length - length, null);
      if (got === 0) break;
      length += got;
    }
    return buffer.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

/** Why a file could not be read, and what to do. */
export function unreadable(error: unknown): string {
  if (error instanceof NoFile) return 'it is a pipe, a socket or a device; put a file there, or take it away';
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return 'there is no such file or directory; check the path';
  if (code === 'EACCES' || code === 'EPERM') return 'it may not be read; check its permissions';
  if (code === 'ENOTDIR') return 'it is no directory, or below something that is none; check the path';
  if (code === 'EISDIR') return 'it is a directory; name a file';
  return `it cannot be read (${error instanceof Error ? error.message : String(error)}); check the path`;
}

/** Why a file cannot be written to, or made; undefined when it can. */
export function unwritable(path: string): string | undefined {
  try {
    const there = statSync(path, { throwIfNoEntry: false });
    if (there?.isDirectory()) return 'it is a directory; name a file';
    if (there === undefined && !statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory())
      return `there is no directory ${dirname(path)}; make it`;
    accessSync(there === undefined ? dirname(path) : path, constants.W_OK);
    return undefined;
  } catch (error) {
    return `it cannot be written (${error instanceof Error ? error.message : String(error)})`;
  }
}
