import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

test('a fatal line comes after those before it, also while they are being written', () => {
  // the thread that is to write is busy
  const script = `
    import { pbkdf2 } from 'node:crypto';
    import { agentLog } from './dist/cli/agent-log.js';
    const log = agentLog();
    pbkdf2('', '', 1_000_000, 64, 'sha512', () => {});
    log.warn('one');
    log.warn('two');
    log.fatal('three');`;
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: new URL('../..', import.meta.url),
    env: { ...process.env, UV_THREADPOOL_SIZE: '1' },
    encoding: 'utf8',
  });
  const told = stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).msg);
  expect([status, told]).toEqual([0, ['one', 'two', 'three']]);
});
