import type { Node } from 'yaml';
import { asText, type Fields, short } from './fields.js';
import { GlobError, parseGlob } from './glob.js';
import { isKubeArmor, warnBelayOnly } from './inherit.js';
import type { Matcher, PolicyKind } from './model.js';
import { MAX_PATH, SOURCE } from './schema/rules.js';
import { fieldNames } from './schema/shape.js';
import type { Source } from './source.js';

/** How rules name files and programs: paths, directories, patterns, program names; and the sources of rules. */

/** An absolute path without a trailing slash; reported and undefined when it is none. */
export function readPath(source: Source, node: Node, what: string): string | undefined {
  const path = readAbsolute(source, node, what);
  if (path === undefined) return undefined;
  if (!path.endsWith('/')) return resolved(source, node, what, path);
  const advice =
    path === '/'
      ? 'for the root directory use matchDirectories'
      : `for a directory use matchDirectories with dir: ${short(path)}`;
  source.error(node, `${what} "${short(path)}" ends in a slash; ${advice}, for a file leave the slash out`);
  return undefined;
}

/** An absolute path with a trailing slash; reported and undefined when it is none. */
export function readDirectory(source: Source, node: Node, what: string): string | undefined {
  const dir = readAbsolute(source, node, what);
  if (dir === undefined) return undefined;
  if (dir.endsWith('/')) return resolved(source, node, what, dir);
  source.error(node, `${what} "${short(dir)}" does not end in a slash; write "${short(dir)}/"`);
  return undefined;
}

function readAbsolute(source: Source, node: Node, what: string): string | undefined {
  const path = asText(source, node, what);
  if (path === undefined) return undefined;
  if (!path.startsWith('/')) {
    const advice = path === '' ? 'write an absolute path' : `write an absolute path, beginning with "/"`;
    source.error(node, `${what} "${short(path)}" is not absolute; ${advice}`);
    return undefined;
  }
  if (path.includes('\0')) {
    source.error(node, `${what} has a NUL character, which no path can have; take it out`);
    return undefined;
  }
  if (Buffer.byteLength(path) > MAX_PATH) {
    source.error(node, `${what} is longer than ${MAX_PATH} bytes, the kernel's limit; shorten it`);
    return undefined;
  }
  return path;
}

/** What is matched is the name the kernel resolved: it has no doubled slashes and no dots. */
function resolved(source: Source, node: Node, what: string, path: string): string {
  const clean = path.replace(/\/(\.?\/)+/g, '/');
  if (/(^|\/)\.\.?(\/|$)/.test(clean)) {
    source.warn(
      node,
      `${what} "${short(path)}" has "." or ".." in it and never matches; write the path without them`,
    );
  } else if (clean !== path) {
    source.warn(node, `${what} "${short(path)}" is read as "${short(clean)}"; write it so`);
  }
  return clean;
}

/** The last component of a program's path. */
export function readExecname(source: Source, node: Node, what: string): string | undefined {
  const name = asText(source, node, what);
  if (name === undefined) return undefined;
  if (name !== '' && !/[/\0]/.test(name) && Buffer.byteLength(name) <= 255) return name;
  source.error(
    node,
    `${what} "${short(name)}" is not a file's name; write its last component only, or use path`,
  );
  return undefined;
}

export function readPattern(source: Source, node: Node, what: string, kind: PolicyKind): string | undefined {
  const pattern = asText(source, node, what);
  if (pattern === undefined) return undefined;
  const fault = patternFault(pattern);
  if (fault !== undefined) {
    source.error(node, `${what} "${short(pattern)}" is not a pattern: ${fault}`);
    return undefined;
  }
  if (neverAbsolute(pattern)) {
    const advice = `a pattern matches the whole path; write "/**/${short(pattern)}" or the like`;
    // KubeArmor's schema lets these pass, and so its users have some.
    if (isKubeArmor(kind))
      source.warn(node, `${what} "${short(pattern)}" is not absolute and never matches; ${advice}`);
    else {
      source.error(node, `${what} "${short(pattern)}" is not absolute; ${advice}`);
      return undefined;
    }
  }
  return pattern;
}

function patternFault(pattern: string): string | undefined {
  try {
    parseGlob(pattern);
    return undefined;
  } catch (error) {
    if (!(error instanceof GlobError)) throw error;
    return `${error.message} (at its character ${error.offset + 1}); correct it`;
  }
}

/** Only a slash, `**` or a group that may hold a slash can match the first byte of an absolute path. */
function neverAbsolute(pattern: string): boolean {
  return !pattern.startsWith('/') && !pattern.startsWith('**') && !/^[{\\]/.test(pattern);
}

/**
 * The programs that a rule is about. A source that cannot be read is reported; the caller must not take the
 * shorter list for the whole, and does not, since the policy is rejected.
 */
export function readSources(fields: Fields, kind: PolicyKind): Matcher[] {
  const found: Matcher[] = [];
  for (const item of fields.list('fromSource')) {
    item.allow(fieldNames(SOURCE));
    warnBelayOnly(item, kind, ['dir', 'recursive', 'pattern']);
    const matcher = readSource(item, kind);
    if (matcher !== undefined) found.push(matcher);
  }
  return found;
}

function readSource(item: Fields, kind: PolicyKind): Matcher | undefined {
  const source = item.source;
  const form = oneOf(item, ['path', 'dir', 'pattern'], 'name the program by path, dir or pattern');
  if (form === undefined) return undefined;
  const recursive = item.flag('recursive') ?? false;
  if (form.name !== 'dir' && item.has('recursive')) {
    source.error(
      item.entry('recursive')?.key ?? item.node,
      `recursive in ${item.what} goes with dir only; take it out`,
    );
  }
  const what = `${item.what}.${form.name}`;
  if (form.name === 'path') {
    const path = readPath(source, form.node, what);
    return path === undefined ? undefined : { kind: 'path', path };
  }
  if (form.name === 'dir') {
    const dir = readDirectory(source, form.node, what);
    return dir === undefined ? undefined : { kind: 'directory', dir, recursive };
  }
  const pattern = readPattern(source, form.node, what, kind);
  return pattern === undefined ? undefined : { kind: 'pattern', pattern };
}

/** The one field of several that is given; none and more than one are errors. */
export function oneOf<T extends string>(
  fields: Fields,
  names: readonly T[],
  advice: string,
): { readonly name: T; readonly node: Node } | undefined {
  const given = names.filter((name) => fields.has(name));
  const [first, second] = given;
  if (first === undefined) {
    fields.source.error(fields.node, `${fields.what} has no ${names.join(' or ')}; ${advice}`);
    return undefined;
  }
  if (second !== undefined) {
    const where = fields.entry(second)?.key ?? fields.node;
    fields.source.error(where, `${fields.what} has both ${first} and ${second}; split it into two entries`);
    return undefined;
  }
  const node = fields.required(first, advice);
  return node === undefined ? undefined : { name: first, node };
}
