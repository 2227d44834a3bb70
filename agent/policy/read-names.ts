import type { Fields } from './fields.js';
import { type Common, inherit, warnBelayOnly } from './inherit.js';
import { oneOf, readDirectory, readExecname, readPath, readPattern, readSources } from './matcher.js';
import type { Matcher, NameRule, PolicyKind } from './model.js';
import { NAME_RULES, SECTIONS } from './schema/rules.js';
import { fieldNames } from './schema/shape.js';

/** The rules of a `process` or `file` section. */
export function readNameRules(
  section: Fields,
  cls: 'process' | 'file',
  outer: Common,
  kind: PolicyKind,
): NameRule[] {
  section.allow(fieldNames(SECTIONS[cls]));
  const common = inherit(section, outer, kind);
  const read = (list: List): NameRule[] =>
    section.list(list, `${cls}.${list}`).flatMap((item) => readNameRule(item, cls, list, common, kind) ?? []);
  return [...read('matchPaths'), ...read('matchDirectories'), ...read('matchPatterns')];
}

type List = keyof typeof NAME_RULES.file;

const HINTS = {
  execname: 'only process.matchPaths knows it; name files by path or pattern',
  readOnly: 'programs are only run; use it in a file rule',
  allowedArgs: 'only process.matchPaths knows it',
  dir: 'directories go under matchDirectories',
  path: 'paths go under matchPaths',
  pattern: 'patterns go under matchPatterns',
};

function readNameRule(
  item: Fields,
  cls: 'process' | 'file',
  list: List,
  outer: Common,
  kind: PolicyKind,
): NameRule | undefined {
  item.allow(fieldNames(NAME_RULES[cls][list]), HINTS);
  if (list === 'matchPatterns') warnBelayOnly(item, kind, ['fromSource']);
  const match = readMatcher(item, cls, list, kind);
  const allowedArgs = cls === 'process' && list === 'matchPaths' ? item.texts('allowedArgs') : undefined;
  const rule = {
    id: item.what,
    at: item.source.at(item.node),
    class: cls,
    ...inherit(item, outer, kind),
    sources: readSources(item, kind),
    ownerOnly: item.flag('ownerOnly') ?? false,
    readOnly: cls === 'file' && (item.flag('readOnly') ?? false),
    noTty: list !== 'matchPatterns' && item.flag('pts') === false,
    ...(allowedArgs === undefined ? {} : { allowedArgs }),
  };
  return match === undefined ? undefined : { ...rule, match };
}

function readMatcher(
  item: Fields,
  cls: 'process' | 'file',
  list: List,
  kind: PolicyKind,
): Matcher | undefined {
  const source = item.source;
  if (list === 'matchDirectories') {
    const recursive = item.flag('recursive') ?? false;
    const node = item.required('dir', 'write dir: /some/directory/');
    const dir = node && readDirectory(source, node, `${item.what}.dir`);
    return dir === undefined ? undefined : { kind: 'directory', dir, recursive };
  }
  if (list === 'matchPatterns') {
    const node = item.required('pattern', 'write pattern: /some/**/pattern');
    const pattern = node && readPattern(source, node, `${item.what}.pattern`, kind);
    return pattern === undefined ? undefined : { kind: 'pattern', pattern };
  }
  const names = cls === 'process' ? (['path', 'execname'] as const) : (['path'] as const);
  const form = oneOf(item, names, 'write path: /absolute/path');
  if (form === undefined) return undefined;
  if (form.name === 'execname') {
    const name = readExecname(source, form.node, `${item.what}.execname`);
    return name === undefined ? undefined : { kind: 'execname', name };
  }
  const path = readPath(source, form.node, `${item.what}.path`);
  return path === undefined ? undefined : { kind: 'path', path };
}
