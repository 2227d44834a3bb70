import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { loadConfig } from '../../agent/cli/config.js';
import { inputFaults } from '../../agent/cli/inputs.js';
import { Wanted } from '../../agent/cli/wanted.js';
import type { Enforcer } from '../../agent/kernel/enforcer.js';
import type { Kernel } from '../../agent/kernel/kernel.js';
import { PolicyDirectory } from '../../agent/policy/directory.js';
import { readWorkloads } from '../../agent/workload/file.js';
import { Presence } from '../../agent/workload/presence.js';
import { recordedLog } from '../api/harness.js';

const MAIN = resolve(import.meta.dirname, '../../dist/bin/main.js');
const POSTURES = { file: 'audit', network: 'audit', capabilities: 'audit' } as const;
const POLICY = `apiVersion: security.belay.dev/v1
kind: WorkloadPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: {}
  file: {matchPaths: [{path: /a}]}
`;

let folder: string;
const at = (name: string) => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-inputs-'));
  mkdirSync(at('policies'));
  writeFileSync(at('policies/web.yaml'), POLICY);
  writeFileSync(at('w.yaml'), 'workloads: []\n');
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A pipe that somebody waits to write to: whoever opens it is not held up for ever. */
function writtenPipe(path: string): ChildProcess {
  execFileSync('mkfifo', [path]);
  return spawn('sh', ['-c', 'echo > "$0"', path]);
}

describe('what the agent is given', () => {
  const faults = (given: Partial<Parameters<typeof inputFaults>[0]>) => {
    const tls = { tlsCertificate: undefined, tlsKey: undefined, tlsClientCa: undefined };
    const good = { policies: at('policies'), workloads: at('w.yaml'), output: '-' };
    const left = { readyFile: undefined, pin: undefined, sinks: [] };
    return inputFaults({ ...good, ...left, ...tls, ...given }).map(
      ({ at: { file, line, column }, message }) =>
        `${file}:${line}:${column}: ${message}`.replace(`${folder}/`, ''),
    );
  };

  it('is in order, also where the output is yet to be made', () => {
    expect(faults({ output: at('events.jsonl'), readyFile: at('ready') })).toEqual([]);
    expect(existsSync(at('events.jsonl'))).toBe(false);
    expect(existsSync(at('ready'))).toBe(false);
  });

  it.each([
    [{ policies: 'nope' }, 'nope:1:1: policies: there is no such file or directory; check the path'],
    [{ policies: 'w.yaml' }, /^w\.yaml:1:1: policies: it is no directory/],
    [{ workloads: 'nope' }, 'nope:1:1: there is no such file or directory; check the path'],
    [{ workloads: 'policies/web.yaml' }, /^policies\/web\.yaml:1:1: unknown field/],
    [{ output: 'policies' }, 'policies:1:1: output: it is a directory; name a file'],
    [{ output: 'no/e.jsonl' }, /^no\/e\.jsonl:1:1: output: there is no directory .*\/no; make it/],
    [{ readyFile: 'policies' }, 'policies:1:1: readyFile: it is a directory; name a file'],
    [{ readyFile: 'no/ready' }, /^no\/ready:1:1: readyFile: there is no directory .*\/no; make it/],
    [{ pin: 'pins/belay' }, /^pins\/belay:1:1: pin: it is not on a bpffs/],
    [{ pin: 'w.yaml' }, /w\.yaml is no directory$/],
    [{ tlsClientCa: 'w.yaml' }, 'w.yaml:1:1: tlsClientCa: it holds no certificate; it must be PEM'],
    [{ tlsKey: 'nope' }, 'nope:1:1: tlsKey: there is no such file or directory; check the path'],
  ])('is told where it cannot be used: %o', (given, what) => {
    const [[name, path]] = Object.entries(given) as [string, string][];
    expect(faults({ [name]: at(path) })[0]).toEqual(
      typeof what === 'string' ? what : expect.stringMatching(what),
    );
  });

  it('is not waited for where it is a pipe', () => {
    const writer = writtenPipe(at('pipe'));
    const pipe = /^pipe:1:1: it is a pipe, a socket or a device; put a file there/;
    expect(faults({ workloads: at('pipe') })).toEqual([expect.stringMatching(pipe)]);
    const { diagnostics } = loadConfig({ config: at('pipe'), kubernetes: true }, {});
    expect(diagnostics.map(({ message }) => `pipe:1:1: ${message}`)).toEqual([expect.stringMatching(pipe)]);
    writer.kill();
  });

  describe('of TLS', () => {
    beforeEach(() => {
      for (const name of ['one', 'two'])
        execFileSync(
          'openssl',
          `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${name}.key -out ${name}.crt -subj /CN=${name}`.split(
            ' ',
          ),
          { cwd: folder, stdio: 'pipe' },
        );
      writeFileSync(at('bad.crt'), '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
      writeFileSync(at('bad.key'), 'no key\n');
    });
    const server = (certificate: string, key: string) =>
      faults({ tlsCertificate: at(certificate), tlsKey: at(key), tlsClientCa: at('two.crt') });

    it('is told where it does not go together', () => {
      expect(server('one.crt', 'one.key')).toEqual([]);
      expect(server('bad.crt', 'one.key')[0]).toMatch(/^bad\.crt:1:1: tlsCertificate: it cannot be used \(/);
      expect(server('one.crt', 'bad.key')[0]).toMatch(/^bad\.key:1:1: tlsKey: it cannot be used \(/);
      expect(server('one.crt', 'two.key')[0]).toMatch(
        /^two\.key:1:1: tlsKey: it cannot be used \(.*mismatch/,
      );
    });

    it('and of secrets is told for a sink, which waits', () => {
      const webhook = { name: 'hook', type: 'webhook', url: 'https://a/' } as const;
      const of = (fields: object) => faults({ sinks: [{ ...webhook, ...fields }] });
      expect(of({ caFile: at('two.crt'), certFile: at('one.crt'), keyFile: at('one.key') })).toEqual([]);
      expect(of({ caFile: at('nope') })).toEqual([
        'nope:1:1: sink hook: caFile: there is no such file or directory; check the path; events wait on disk until it can be used',
      ]);
      expect(of({ caFile: at('w.yaml') })[0]).toMatch(/^w\.yaml:1:1: sink hook: caFile: it holds no cert/);
      expect(of({ certFile: at('one.crt'), keyFile: at('two.key') })[0]).toMatch(/^two\.key:1:1: .* keyFile/);
      expect(of({ token: { file: at('nope') } })[0]).toMatch(
        /^nope:1:1: sink hook: token: .* cannot be read/,
      );
      expect(faults({ sinks: [{ name: 'f', type: 'file', path: at('policies') }] })[0]).toMatch(
        /^policies:1:1: sink f: path: it is a directory; events wait/,
      );
    });
  });

  const agent = (args: string[], uid?: number) =>
    spawnSync(process.execPath, [MAIN, 'agent', ...args], { encoding: 'utf8', uid, cwd: '/' });

  it.runIf(process.getuid?.() === 0)('is looked at before the kernel, and after who it is that asks', () => {
    const args = ['--policies', at('nope'), '--workloads', at('w.yaml')];
    const root = agent(args);
    expect(root.status).toBe(1);
    expect(root.stderr).toContain('nope:1:1: error: policies: there is no such');
    expect(root.stderr.trim().split('\n')).toHaveLength(1);
    writeFileSync(at('agent.yaml'), `sinks: [{name: out, type: stdout}]\nspool: ${at('w.yaml')}\n`);
    const spool = agent([
      ...['--policies', at('policies'), '--workloads', at('w.yaml')],
      ...['--config', at('agent.yaml')],
    ]);
    expect(spool.status).toBe(1);
    expect(spool.stderr).toContain(`sink out: spool: ${at('w.yaml')}/out cannot be used`);
    expect(spool.stderr).not.toContain('loading the kernel programs');
    const nobody = agent(args, 65534);
    expect(nobody.status).toBe(1);
    expect(nobody.stderr).toMatch(/^\{.*run as root.*\}\n$/);
  });
});

describe('a policy that becomes bad', () => {
  const messages = (directory: PolicyDirectory) =>
    directory.read().diagnostics.map(({ severity, message }) => `${severity}: ${message}`);

  it('is told with what holds instead', () => {
    const directory = new PolicyDirectory(at('policies'), POSTURES);
    expect(messages(directory)).toEqual([]);
    writeFileSync(at('policies/web.yaml'), POLICY.replace('/a', 'a'));
    expect(messages(directory)).toEqual([
      expect.stringMatching(/^error: /),
      'warning: the last good version of WorkloadPolicy/shop/web stays in force',
    ]);
    expect(messages(directory)).toEqual([]);
  });

  it('since it is a pipe now, which nobody waits for, is told of once', () => {
    const directory = new PolicyDirectory(at('policies'), POSTURES);
    const { policies } = directory.read();
    rmSync(at('policies/web.yaml'));
    const writer = writtenPipe(at('policies/web.yaml'));
    symlinkSync('/dev/null', at('policies/null.yaml'));
    const read = directory.read();
    writer.kill();
    expect(read.policies).toEqual(policies);
    const no = 'error: it is a pipe, a socket or a device; put a file there, or take it away';
    expect(
      read.diagnostics.map(({ at, severity, message }) => `${basename(at.file)} ${severity}: ${message}`),
    ).toEqual([
      `null.yaml ${no}`,
      'null.yaml warning: nothing of what is broken here is in force',
      `web.yaml ${no}`,
      'web.yaml warning: the last good version of WorkloadPolicy/shop/web stays in force',
    ]);
    expect(messages(directory)).toEqual([]);
  });

  it('is told when there is nothing else of it', () => {
    writeFileSync(at('policies/web.yaml'), POLICY.replace('/a', 'a'));
    const directory = new PolicyDirectory(at('policies'), POSTURES);
    expect(messages(directory).at(-1)).toBe('warning: nothing of what is broken here is in force');
  });
});

test('that no policy is left is a warning, and that there never was one is not', () => {
  const { log, lines } = recordedLog();
  const enforcer = { setPolicies: () => [], setWorkloads: () => [], sets: 0 } as unknown as Enforcer;
  const wanted = new Wanted({
    ...{ enforcer, kernel: { tableBytes: 0 } as Kernel, log },
    ...{ policySources: ['d'], workloadSources: ['f'], onReady: () => {}, onApplied: () => {} },
  });
  const { policies } = new PolicyDirectory(at('policies'), POSTURES).read();
  wanted.setPolicies('d', []);
  wanted.setWorkloads('f', []);
  wanted.setPolicies('d', []);
  wanted.setPolicies('d', policies);
  expect(lines.filter(({ level }) => level > 30)).toEqual([]);
  wanted.setPolicies('d', []);
  expect(lines.at(-1)).toMatchObject({ level: 40, msg: 'there is no policy any more: nothing is enforced' });
});

test("a workload's cgroup is missed once, and told of when it comes and goes", () => {
  const { log, lines } = recordedLog();
  const cgroups = new Set(['/sys/fs/cgroup/a']);
  const presence = new Presence(log, (path) => cgroups.has(path));
  const list = (...names: string[]) =>
    readWorkloads(
      `workloads: [${names.map((name) => `{namespace: shop, name: ${name}, cgroup: /sys/fs/cgroup/${name}}`)}]`,
      'w.yaml',
    ).workloads;
  const look = (...names: string[]) => {
    presence.look(list(...names));
    return lines.splice(0).map(({ level, msg }) => `${level} ${msg}`);
  };
  expect(look('a', 'b')).toEqual([
    '40 workload shop/b: there is no cgroup /sys/fs/cgroup/b yet; it is protected from when there is',
  ]);
  expect(look('a', 'b')).toEqual([]);
  cgroups.add('/sys/fs/cgroup/b');
  expect(look('a', 'b')).toEqual(['30 workload shop/b: there is a cgroup /sys/fs/cgroup/b now']);
  cgroups.delete('/sys/fs/cgroup/a');
  expect(look('a', 'b')).toEqual([
    '40 workload shop/a: its cgroup /sys/fs/cgroup/a is gone; it is protected once there is one',
  ]);
  expect(look('b', 'c')).toEqual([expect.stringMatching(/^40 workload shop\/c: there is no cgroup/)]);
  expect(look('a', 'b')).toEqual([expect.stringMatching(/^40 workload shop\/a: there is no cgroup .* yet/)]);
});
