import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const PROJECT = resolve(import.meta.dirname, '../..');

/** Copying and starting it all, on a busy machine. */
const SLOW_MS = 120_000;

/** Whether this process may have mounts of its own, which a read-only file system takes. */
const mayMount = spawnSync('unshare', ['--mount', 'true']).status === 0;
if (!mayMount) process.stderr.write('\n!!! SKIPPED: the image on a read-only file system: needs root\n\n');

describe('what the image holds', { timeout: SLOW_MS }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'belay-image-'));
  const root = join(folder, 'belay');
  beforeAll(() => {
    execFileSync(join(PROJECT, 'deploy/assemble'), [root], { stdio: ['ignore', 'ignore', 'inherit'] });
  }, SLOW_MS);
  afterAll(() => rmSync(folder, { recursive: true }));

  /** Runs a script with the folder where the image has it, and nothing that can be written to. */
  const readOnly = (script: string) =>
    spawnSync(
      'unshare',
      [
        '--mount',
        'sh',
        '-ec',
        `mount --bind ${root} /opt
         for m in / /opt /tmp /run /var /dev/shm; do
           if mountpoint -q $m; then mount -o remount,bind,ro $m; fi
         done
         cd / && ${script}`,
      ],
      { encoding: 'utf8', env: { PATH: process.env.PATH } },
    );

  test.runIf(mayMount)('runs from a read-only file system, without the project around it', () => {
    const { status, stdout, stderr } = readOnly(
      `! touch /opt/x 2> /dev/null; /opt/dist/bin/main.js --version; /opt/dist/bin/main.js check ${PROJECT}/deploy/examples`,
    );
    expect(status, stderr).toBe(0);
    expect(stderr).toContain('0 errors, 0 warnings');
    const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
    expect(stdout.split('\n')[0]).toBe(version);
  });

  test.runIf(mayMount)(
    'has the addon and the kernel programs, and all packages that the agent imports',
    () => {
      const { stderr } = readOnly(
        `node --input-type=module -e '
        import { readdirSync } from "node:fs";
        for (const file of readdirSync("/opt/dist/bin"))
          if (file !== "main.js") await import("/opt/dist/bin/" + file);
      '; /opt/dist/bin/main.js probe > /dev/null; test -s /opt/build/belay.bpf.o -a -s /opt/build/belay-6.1.bpf.o`,
      );
      expect(stderr).toBe('');
    },
  );

  test('is no package but its licence, no type declaration and no source map', () => {
    const files = readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)));
    expect(files.filter((file) => /\.(d\.[cm]?ts|ts|map|cc|o\.d)$/.test(file))).toEqual([]);
    const ofPackages = files.filter((file) => file.startsWith('node_modules/'));
    expect(ofPackages.filter((file) => !/\/((licen[cs]e|notice)[^/]*|package\.json)$/i.test(file))).toEqual(
      [],
    );
    expect(files).toContain('node_modules/@grpc/grpc-js/LICENSE');
    expect(files.filter((file) => file.endsWith('.node'))).toEqual(['native/build/Release/belay.node']);
  });
});

describe('the Containerfile', () => {
  const text = readFileSync(join(PROJECT, 'deploy/Containerfile'), 'utf8');
  const instructions = text
    .replace(/^\s*#.*\n/gm, '')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.trim().replace(/\s+/g, ' '));
  const from = instructions.flatMap((line, index) => (line.startsWith('FROM ') ? [index] : []));
  const final = instructions.slice(from.at(-1));

  test('builds in one stage and keeps another', () => {
    expect(from).toHaveLength(2);
    expect(instructions[from[0] ?? 0]).toMatch(/ AS build$/);
    expect(
      final.filter((line) => line.startsWith('COPY')).every((line) => line.includes('--from=build')),
    ).toBe(true);
  });

  test('names its bases plainly and pins them', () => {
    const args = new Map(
      instructions
        .filter((line) => line.startsWith('ARG '))
        .map((line) => line.slice(4).split('=') as [string, string]),
    );
    const bases = from.map((index) =>
      (instructions[index]?.split(' ')[1] ?? '').replace(/\$\{(\w+)\}/g, (_, name) => args.get(name) ?? '?'),
    );
    expect(bases).toEqual([
      expect.stringMatching(/^node:24\.\d+\.\d+-trixie$/),
      expect.stringMatching(/^debian:13\.\d+-slim$/),
    ]);
    expect(text).not.toMatch(/https?:|:latest/);
  });

  test('leaves no compiler, package manager of Node or package list in the image', () => {
    const installed = final
      .flatMap((line) => /apt-get install ([^&]*)/.exec(line)?.[1]?.trim().split(' ') ?? [])
      .filter((word) => !word.startsWith('--'));
    expect(installed).toEqual(['libatomic1', 'libbpf1', 'libstdc++6']);
    expect(final.find((line) => line.includes('apt-get'))).toContain('rm -rf /var/lib/apt/lists/*');
    expect(final.filter((line) => line.startsWith('COPY'))).toEqual([
      'COPY --from=build /usr/local/bin/node /usr/local/bin/node',
      'COPY --from=build /opt/belay /opt/belay',
    ]);
  });

  test('installs nothing that was only recommended', () => {
    for (const line of instructions.filter((line) => line.includes('apt-get install')))
      expect(line).toContain('--no-install-recommends');
  });

  test('copies what there is', () => {
    const sources = instructions
      .filter((line) => line.startsWith('COPY ') && !line.includes('--from'))
      .flatMap((line) => line.split(' ').slice(1, -1));
    for (const source of sources) execFileSync('bash', ['-c', `ls -d ${source}`], { cwd: PROJECT });
  });

  test('is the version that it says, and starts belay', () => {
    const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
    expect(final.find((line) => line.startsWith('LABEL'))).toContain(
      `org.opencontainers.image.version="${version}"`,
    );
    expect(final.at(-1)).toBe('ENTRYPOINT ["belay"]');
  });
});
