import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { checkCommand } from '../../agent/cli/check.js';
import { policyCommand } from '../../agent/cli/policy.js';

const good = `apiVersion: security.belay.dev/v1
kind: WorkloadPolicy
metadata: {name: good, namespace: shop}
spec:
  selector: {}
  file: {matchPaths: [{path: /a}]}
`;
const bad = good.replace('/a', 'a').replace('good', 'bad');
const doubtful = good.replace('/a', '/a/../b').replace('good', 'doubtful');

let directory: string;
let exitCode: typeof process.exitCode;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-check-'));
  exitCode = process.exitCode;
  process.exitCode = undefined;
});

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = exitCode;
  rmSync(directory, { recursive: true });
});

function write(name: string, text: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

/** What the command prints, and the code that the process would exit with. */
async function said(command: Command, args: string[]): Promise<{ out: string; err: string; code: number }> {
  const out = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  const err = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  await command.parseAsync(args, { from: 'user' });
  const text = (spy: typeof out) => spy.mock.calls.map(([chunk]) => String(chunk)).join('');
  const result = { out: text(out), err: text(err as typeof out), code: Number(process.exitCode ?? 0) };
  out.mockRestore();
  err.mockRestore();
  return result;
}
const check = (...args: string[]) => said(checkCommand(), args);

test('a valid policy passes in silence, with a summary on stderr', async () => {
  expect(await check(write('a.yaml', good))).toEqual({
    out: '',
    err: '1 file: 1 valid policy, 0 errors, 0 warnings\n',
    code: 0,
  });
});

test('a warning alone does not fail', async () => {
  const path = write('a.yaml', doubtful);
  const { out, code } = await check(path);
  expect(out).toBe(
    `${path}:6:30: warning: file.matchPaths[0].path "/a/../b" has "." or ".." in it and never matches; write the path without them\n`,
  );
  expect(code).toBe(0);
});

test('every fault of every file of a directory, sorted, and exit 1', async () => {
  mkdirSync(join(directory, 'sub'));
  write('b.yml', bad);
  write('a.yaml', `${doubtful}---\n${bad}`);
  write('sub/c.json', '{"kind": "Pod"}');
  write('readme.txt', 'no policy');
  write('.hidden.yaml', 'a: [');
  symlinkSync('..', join(directory, 'sub', 'loop'));
  const { out, err, code } = await check(directory);
  expect(
    out
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(`${directory}/`, '').replace(/(error|warning): .*/, '$1')),
  ).toEqual(['a.yaml:6:30: warning', 'a.yaml:13:30: error', 'b.yml:6:30: error', 'sub/c.json:1:10: error']);
  expect(err).toBe('3 files: 1 valid policy, 3 errors, 1 warning\n');
  expect(code).toBe(1);
});

test('--json gives machines the same', async () => {
  const path = write('a.yaml', bad);
  const { out, code } = await check('--json', path);
  expect(JSON.parse(out)).toEqual({
    diagnostics: [
      {
        file: path,
        line: 6,
        column: 30,
        severity: 'error',
        message: expect.stringContaining('not absolute'),
      },
    ],
    summary: { files: 1, policies: 0, errors: 1, warnings: 0 },
  });
  expect(code).toBe(1);
});

test('what cannot be read is an error like any other', async () => {
  const secret = write('secret.yaml', good);
  chmodSync(secret, 0);
  const empty = join(directory, 'empty');
  mkdirSync(empty);
  const missing = join(directory, 'missing.yaml');
  const { out, code } = await check(missing, empty, ...(process.getuid?.() === 0 ? [] : [secret]));
  expect(out).toContain(`${missing}:1:1: error: there is no such file`);
  expect(out).toContain(`${empty}:1:1: error: it holds no`);
  if (process.getuid?.() !== 0) expect(out).toContain(`${secret}:1:1: error: it may not be read`);
  expect(code).toBe(1);
});

test('a pipe is read where it is named, and not where it lies in a directory', async () => {
  const pipe = join(directory, 'pipe.yaml');
  execFileSync('mkfifo', [pipe]);
  const feed = () => spawn('sh', ['-c', 'printf %s "$1" > "$0"', pipe, good]);
  feed();
  expect((await check(pipe)).err).toBe('1 file: 1 valid policy, 0 errors, 0 warnings\n');
  feed();
  expect((await said(policyCommand(), ['compile', pipe])).code).toBe(0);
  const waits = feed();
  const { out, code } = await check(directory);
  waits.kill();
  expect(out).toBe(
    `${pipe}:1:1: error: it is a pipe, a socket or a device; put a file there, or take it away\n`,
  );
  expect(code).toBe(1);
});

test('a file of 100 MB is refused at once', async () => {
  const path = write('big.yaml', '');
  truncateSync(path, 100_000_000);
  const start = performance.now();
  const { out, code } = await check(path);
  expect(out).toContain('longer than 1 MiB');
  expect(performance.now() - start).toBeLessThan(1000);
  expect(code).toBe(1);
});

test('bytes that are not UTF-8 are an error at their place', async () => {
  const path = write('latin.yaml', Buffer.from('a: b\nc: caf\xe9\n', 'latin1'));
  expect((await check(path)).out).toMatch(/latin\.yaml:2:7: error: the byte 0xe9/);
});

test('a file that is named twice is read once', async () => {
  const file = write('good.yaml', good);
  const { err, code } = await check(file, file, directory);
  expect([err, code]).toEqual(['1 file: 1 valid policy, 0 errors, 0 warnings\n', 0]);
});

test('a policy that is compiled is warned of as one that is checked', async () => {
  const twice = doubtful.replace('{path: /a/../b}', '{path: /a/../b}, {path: /c}, {path: /c}');
  const path = write('a.yaml', twice);
  const checked = await check(path);
  const { out, err, code } = await said(policyCommand(), ['compile', path]);
  expect(err).toBe(checked.out);
  expect(err.match(/^.*a\.yaml:6:\d+: warning: /gm)).toHaveLength(2);
  expect(out).toMatch(/^table bytes +\d+$/m);
  expect(code).toBe(0);
});
