import { asText, type Fields, short } from './fields.js';
import { type Common, inherit } from './inherit.js';
import { readDirectory, readPath } from './matcher.js';
import type { Matcher, PolicyKind, SyscallRule } from './model.js';
import { SECTIONS, SYSCALL_NAME, SYSCALL_RULES, SYSCALL_SOURCE } from './schema/rules.js';
import { fieldNames } from './schema/shape.js';
import { isSyscall, operationsOf } from './syscalls.js';

/** System calls to report. Whatever action is written or inherited, they audit. */
export function readSyscallRules(section: Fields, outer: Common, kind: PolicyKind): SyscallRule[] {
  section.allow(fieldNames(SECTIONS.syscalls));
  const common = inherit(section, outer, kind);
  const named = section.list('matchSyscalls', 'syscalls.matchSyscalls').flatMap((item) => {
    item.allow(fieldNames(SYSCALL_RULES.matchSyscalls));
    return readRule(item, common, kind, readNames(item)) ?? [];
  });
  const placed = section.list('matchPaths', 'syscalls.matchPaths').flatMap((item) => {
    item.allow(fieldNames(SYSCALL_RULES.matchPaths));
    const match = readPlace(item, ['path']);
    const rule = readRule(item, common, kind, readNames(item, true));
    if (match === undefined || rule === undefined) return [];
    return [{ ...rule, match }];
  });
  return [...named, ...placed];
}

function readRule(
  item: Fields,
  outer: Common,
  kind: PolicyKind,
  syscalls: readonly string[],
): SyscallRule | undefined {
  const common = inherit(item, outer, kind);
  const given = item.list('fromSource');
  const sources = given.flatMap((source) => {
    source.allow(fieldNames(SYSCALL_SOURCE));
    return readPlace(source, ['path', 'dir']) ?? [];
  });
  // a source that cannot be used must not turn into "whatever program"
  if (syscalls.length === 0 || sources.length < given.length) return undefined;
  return {
    id: item.what,
    at: item.source.at(item.node),
    class: 'syscalls',
    ...common,
    action: 'Audit',
    sources,
    syscalls,
  };
}

/** @param onPath only those are of use that a path can be told of */
function readNames(item: Fields, onPath = false): string[] {
  const names: string[] = [];
  const items = item.items('syscall') ?? [];
  for (const { node, index } of items) {
    const what = `${item.what}.syscall[${index}]`;
    const name = asText(item.source, node, what);
    if (name === undefined) continue;
    if (!new RegExp(SYSCALL_NAME).test(name)) {
      item.source.error(
        node,
        `${what} "${short(name)}" is not a system call's name; write one like unlinkat`,
      );
    } else if (!isSyscall(name)) {
      item.source.warn(node, `${what} "${name}" is no system call of x86 and never matches; take it out`);
    } else if (onPath && operationsOf(name).length === 0) {
      item.source.warn(
        node,
        `${what} "${name}" is not reported by path; write a file rule with action: Audit, or use matchSyscalls`,
      );
    } else names.push(name);
  }
  if (items.length === 0)
    item.source.warn(
      item.node,
      `${item.what} names no system call and never matches; list some under syscall`,
    );
  return names;
}

/** A path or, with its slash, a directory. */
function readPlace(item: Fields, fields: readonly string[]): Matcher | undefined {
  const recursive = item.flag('recursive') ?? false;
  const given = fields.filter((name) => item.has(name));
  const places = given.flatMap((name): Matcher[] => {
    const node = item.value(name);
    const what = `${item.what}.${name}`;
    const text = node && asText(item.source, node, what);
    if (node === undefined || text === undefined) return [];
    if (text.endsWith('/')) {
      const dir = readDirectory(item.source, node, what);
      return dir === undefined ? [] : [{ kind: 'directory', dir, recursive }];
    }
    const path = readPath(item.source, node, what);
    return path === undefined ? [] : [{ kind: 'path', path }];
  });
  if (given.length !== 1)
    item.source.warn(
      item.node,
      `${item.what} must have ${fields.join(' or ')}, and one only; without, its rule never matches`,
    );
  return given.length === 1 ? places[0] : undefined;
}
