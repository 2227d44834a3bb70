import { asText, type Fields, short } from './fields.js';
import { type Common, inherit } from './inherit.js';
import { readDirectory, readPath } from './matcher.js';
import type { PolicyKind } from './model.js';
import { SECTIONS, SYSCALL_NAME, SYSCALL_RULES, SYSCALL_SOURCE } from './schema/rules.js';
import { fieldNames } from './schema/shape.js';

/** Rules on system calls are checked for their shape and leave no rule: they only ever audit, and do not yet. */
export function checkSyscalls(section: Fields, outer: Common, kind: PolicyKind): void {
  section.allow(fieldNames(SECTIONS.syscalls));
  inherit(section, outer, kind);
  for (const item of section.list('matchSyscalls', 'syscalls.matchSyscalls')) {
    item.allow(fieldNames(SYSCALL_RULES.matchSyscalls));
    checkNames(item);
    checkSources(item);
  }
  for (const item of section.list('matchPaths', 'syscalls.matchPaths')) {
    item.allow(fieldNames(SYSCALL_RULES.matchPaths));
    checkPlace(item, 'path');
    item.flag('recursive');
    checkNames(item);
    checkSources(item);
  }
  section.source.warn(
    section.node,
    'system call rules are not reported by this version; the rest of the policy holds',
  );
}

function checkNames(item: Fields): void {
  for (const { node, index } of item.items('syscall') ?? []) {
    const what = `${item.what}.syscall[${index}]`;
    const name = asText(item.source, node, what);
    if (name !== undefined && !new RegExp(SYSCALL_NAME).test(name)) {
      item.source.error(
        node,
        `${what} "${short(name)}" is not a system call's name; write one like unlinkat`,
      );
    }
  }
}

/** A path or, with its slash, a directory. */
function checkPlace(item: Fields, name: string): void {
  const node = item.value(name);
  if (node === undefined) return;
  const text = asText(item.source, node, `${item.what}.${name}`);
  if (text === undefined) return;
  if (text.endsWith('/')) readDirectory(item.source, node, `${item.what}.${name}`);
  else readPath(item.source, node, `${item.what}.${name}`);
}

function checkSources(item: Fields): void {
  for (const source of item.list('fromSource')) {
    source.allow(fieldNames(SYSCALL_SOURCE));
    checkPlace(source, 'path');
    checkPlace(source, 'dir');
    source.flag('recursive');
  }
}
