import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { tableOf } from '../../agent/cli/terminal.js';
import { NoSymbols, symbolAddresses } from '../../agent/kernel/trouble.js';
import { alertRecord } from './serve-records.js';

const PROJECT = resolve(import.meta.dirname, '../..');
const MAIN = join(PROJECT, 'dist/bin/main.js');

describe('a table', () => {
  const long = '/run/secrets/kubernetes.io/serviceaccount/token (READ)';
  const row = [
    '09:56:04.123',
    'ContainerKilled',
    '5',
    'shop/web-1/nginx',
    '/usr/bin/cat',
    long,
    'x'.repeat(50),
  ];
  const head = ['time', 'verdict', 'sev', 'workload', 'program', 'object', 'rule'];

  it.each([80, 100, 120])('fits %i columns and loses nothing', (width) => {
    const text = tableOf(head, [row, row], width);
    const lines = text.trimEnd().split('\n');
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(width);
    expect(text).not.toMatch(/[─│]/);
    const letters = (all: string) => [...all.replaceAll(/\s/g, '')].sort().join('');
    expect(letters(text)).toBe(letters([...head, ...row, ...row].join('')));
  });

  it('is as narrow as what it says', () => {
    expect(tableOf(['a', 'b'], [['1', 'two']], 80)).toBe('a  b\n1  two\n');
  });

  it('counts colours as nothing, and gives each line of a cell its own', () => {
    const text = tableOf(['a'], [['\x1b[31mone two\x1b[39m']], 4);
    expect(text).toBe('a\n\x1b[31mone\x1b[39m\n\x1b[31mtwo\x1b[39m\n');
  });
});

it.each([
  [{}, false],
  [{ CI: '1' }, false],
  [{ FORCE_COLOR: '1' }, true],
  [{ FORCE_COLOR: '1', NO_COLOR: '1' }, false],
])('colours go into a pipe only where they are asked for: %o', (env, coloured) => {
  const folder = mkdtempSync(join(tmpdir(), 'belay-colours-'));
  writeFileSync(join(folder, 'e.jsonl'), `${JSON.stringify(alertRecord({}))}\n`);
  const { stdout } = spawnSync(process.execPath, [MAIN, 'events', '--table', join(folder, 'e.jsonl')], {
    env: { PATH: process.env.PATH, ...env },
    encoding: 'utf8',
  });
  rmSync(folder, { recursive: true });
  expect(stdout).toContain('Denied');
  expect(stdout.includes('\x1b')).toBe(coloured);
});

it('the program can be run by its name', () => {
  expect(statSync(MAIN).mode & 0o111).toBe(0o111);
});

describe("the kernel's symbols that the programs cannot do without", () => {
  const folder = mkdtempSync(join(tmpdir(), 'belay-kallsyms-'));
  const file = join(folder, 'kallsyms');
  const look = (text: string) => {
    writeFileSync(file, text);
    return () => symbolAddresses(file);
  };
  afterAll(() => rmSync(folder, { recursive: true }));

  it('are found', () => {
    const text =
      'ffffffff81000000 T lock_mount\nffffffff82a0c080 D rename_lock\nffffffff82a0c0c0 d xmount_lock\n' +
      'ffffffff82a0d040 T mount_lock\nffffffffc0000000 d mount_lock\t[module]\n';
    expect(look(text)()).toEqual({ rename_lock_at: 0xffffffff82a0c080n, mount_lock_at: 0xffffffff82a0d040n });
  });

  it('are missed where kallsyms has functions only, or is not there', () => {
    const functions =
      'ffffffff81000000 T lock_mount\nffffffff82a0c080 D rename_lock\nffffffff82a0c0c0 d xmount_lock\n';
    expect(look(functions)).toThrow(/its mount_lock is .* CONFIG_KALLSYMS_ALL/);
    expect(() => symbolAddresses(join(folder, 'none'))).toThrow(NoSymbols);
  });

  it('are missed where their addresses are hidden', () => {
    const hidden = '0000000000000000 D rename_lock\n0000000000000000 d mount_lock\n';
    expect(look(hidden)).toThrow(/its rename_lock and mount_lock are .*CAP_SYSLOG.*kernel.kptr_restrict/);
  });
});
