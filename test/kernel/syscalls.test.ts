import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AlertRecord } from '../../agent/event/record.js';
import {
  Belay,
  cgroup,
  inCgroup,
  makeCgroup,
  policy,
  removeCgroup,
  type Shell,
  T,
  workload,
} from './harness.js';

let belay: Belay;
let shell: Shell;

const told = ({ class: kind, operation, object, rule, action, verdict, severity, message }: AlertRecord) => ({
  kind,
  operation,
  object,
  rule,
  action,
  verdict,
  severity,
  message,
});

beforeAll(async () => {
  belay = await Belay.start({ workloads: [workload('w', cgroup('syscalls'))] });
  shell = inCgroup(makeCgroup(cgroup('syscalls')));
  const made = await shell.run(`rm -rf ${T}; mkdir -p ${T}/deep/er ${T}/bin/sub; cp ${shell.act} ${T}/bin/act
cp ${shell.act} ${T}/bin/sub/act`);
  expect(made).toBe('');
});

afterAll(async () => {
  await shell?.close();
  await removeCgroup(cgroup('syscalls'));
  expect(await belay?.stop()).toBe(0);
});

const enforce = (rules: string, more = '') => belay.enforce(policy('calls', `${more}syscalls:\n  ${rules}`));

let files = 0;

/** Unlinks a new file and gives what was told of it before what `fence` does was told. */
async function unlinked(directory = T, program = shell.act): Promise<AlertRecord[]> {
  const path = `${directory}/${++files}`;
  // what was told a moment ago is counted first, and told later
  await sleep(1100);
  const from = belay.records().length;
  await shell.run(`echo > ${path}`);
  expect(await shell.doAs(program, 'unlink', path)).toBe('ok');
  // the records of one workload come in their order: this one is last
  expect(await shell.do('symlink', 'fence', `${T}/fence${files}`)).toBe('ok');
  await belay.alert((a) => a.object.syscall === 'symlink', from);
  return belay.alerts((a) => a.object.syscall === 'unlink', from);
}

describe('a call by its name', () => {
  it('is reported and goes ahead, with what the policy says of it', async () => {
    await enforce(
      'matchSyscalls: [{syscall: [unlink]}, {syscall: [symlink]}]',
      'severity: 3\nmessage: calls\n',
    );
    expect((await unlinked()).map(told)).toEqual([
      {
        kind: 'Syscall',
        operation: 'syscall',
        object: { syscall: 'unlink' },
        rule: 'syscalls.matchSyscalls[0]',
        action: 'Audit',
        verdict: 'Passed',
        severity: 3,
        message: 'calls',
      },
    ]);
  });

  it.each([
    ['a path', `{path: ${T}/bin/act}`, true, false],
    ['a directory', `{dir: ${T}/bin/}`, true, false],
    ['all below a directory', `{dir: ${T}/bin/, recursive: true}`, true, true],
  ])('is reported for programs by %s, and for no other', async (_, source, direct, below) => {
    await enforce(`matchSyscalls: [{syscall: [unlink], fromSource: [${source}]}, {syscall: [symlink]}]`);
    expect(await unlinked()).toHaveLength(0);
    expect(await unlinked(T, `${T}/bin/act`)).toHaveLength(direct ? 1 : 0);
    expect(await unlinked(T, `${T}/bin/sub/act`)).toHaveLength(below ? 1 : 0);
  });
});

describe('a call on a path', () => {
  const fence = '{syscall: [symlink]}';

  it.each([
    ['direct children', `path: ${T}/deep/`, [`${T}/deep`]],
    ['all below', `path: ${T}/deep/, recursive: true`, [`${T}/deep`, `${T}/deep/er`]],
  ])('is reported in a directory: %s', async (_, place, reported) => {
    await enforce(`matchSyscalls: [${fence}]\n  matchPaths: [{${place}, syscall: [unlinkat], severity: 9}]`);
    for (const directory of [T, `${T}/deep`, `${T}/deep/er`]) {
      const alerts = await unlinked(directory);
      expect(alerts.map(told)).toEqual(
        reported.includes(directory)
          ? [
              {
                kind: 'Syscall',
                operation: 'syscall',
                object: { syscall: 'unlink', path: `${directory}/${files}` },
                rule: 'syscalls.matchPaths[0]',
                action: 'Audit',
                verdict: 'Passed',
                severity: 9,
                message: '',
              },
            ]
          : [],
      );
    }
  });

  it('is reported for the programs that a rule names', async () => {
    const sources = `fromSource: [{dir: ${T}/bin/, recursive: true}]`;
    await enforce(
      `matchSyscalls: [${fence}]\n  matchPaths: [{path: ${T}/deep/, syscall: [unlink], ${sources}}]`,
    );
    expect(await unlinked(`${T}/deep`)).toHaveLength(0);
    expect(await unlinked(`${T}/deep`, `${T}/bin/sub/act`)).toHaveLength(1);
  });

  it('is reported beside what a file rule reports', async () => {
    const rules = `matchSyscalls: [${fence}]\n  matchPaths: [{path: ${T}/deep/, syscall: [unlink]}]`;
    const file = `file: {matchDirectories: [{dir: ${T}/deep/, action: Audit}]}\n`;
    await enforce(rules, file);
    const from = belay.records().length;
    expect(await unlinked(`${T}/deep`)).toHaveLength(1);
    await belay.alert((a) => a.class === 'File' && a.operation === 'unlink', from);
  });
});

it('what is denied is not reported as a call on its path', async () => {
  const rules = `matchSyscalls: [{syscall: [symlink]}]\n  matchPaths: [{path: ${T}/deep/, syscall: [unlink]}]`;
  await enforce(rules, `file: {matchDirectories: [{dir: ${T}/deep/, readOnly: true}]}\n`);
  const from = belay.records().length;
  expect(await shell.do('unlink', `${T}/deep/er`)).toBe('EACCES');
  expect(await shell.do('symlink', 'fence', `${T}/last`)).toBe('ok');
  await belay.alert((a) => a.object.syscall === 'symlink', from);
  expect(belay.alerts((a) => a.class === 'Syscall' && a.object.path !== undefined, from)).toEqual([]);
});
