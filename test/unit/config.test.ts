import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type ConfigChange,
  configHelp,
  configOptions,
  configSchema,
  type Flags,
  loadConfig,
  readConfig,
  watchConfig,
} from '../../agent/cli/config.js';
import { LIVE_SETTINGS, type Settings } from '../../agent/cli/settings.js';
import type { Diagnostic } from '../../agent/policy/model.js';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'belay-config-'));
  file = join(directory, 'config.yaml');
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

/** As `belay agent` would take them. */
function flagsOf(...args: string[]): Flags {
  const command = new Command('agent').exitOverride().configureOutput({ writeErr: () => {} });
  for (const option of configOptions()) command.addOption(option);
  return command.parse(args, { from: 'user' }).opts();
}

const STAND_ALONE = ['--policies', '/p', '--workloads', '/w.yaml'];

describe('the settings', () => {
  test('come from flags before the environment, the environment before the file, the file before defaults', () => {
    writeFileSync(file, 'filePosture: block\nnetworkPosture: block\ncapabilitiesPosture: block\n');
    const load = (...args: string[]) =>
      loadConfig(flagsOf(...STAND_ALONE, '--config', file, ...args), {}).settings;
    vi.stubEnv('BELAY_NETWORK_POSTURE', 'audit');
    vi.stubEnv('BELAY_CAPABILITIES_POSTURE', 'audit');
    expect(load('--capabilities-posture', 'block')).toMatchObject({
      filePosture: 'block',
      networkPosture: 'audit',
      capabilitiesPosture: 'block',
      unknownPosture: 'audit',
    });
  });

  test('have these defaults', () => {
    expect(loadConfig(flagsOf(...STAND_ALONE), {})).toEqual({
      settings: {
        policies: '/p',
        workloads: '/w.yaml',
        kubernetes: false,
        node: hostname().toLowerCase(),
        kubeconfig: undefined,
        criSocket: undefined,
        hostPolicies: true,
        clusterName: 'default',
        output: '-',
        sinks: [],
        spool: '/var/lib/belay/spool',
        redact: [],
        visibility: 'none',
        alertThrottling: false,
        maxAlertPerSec: 10,
        throttleSec: 30,
        dropResourceFromProcessLogs: false,
        pin: undefined,
        readyFile: undefined,
        metricsAddress: undefined,
        socket: '/run/belay/belay.sock',
        socketGroup: undefined,
        listenAddress: undefined,
        tlsCertificate: undefined,
        tlsKey: undefined,
        tlsClientCa: undefined,
        tokenAudience: undefined,
        oidcIssuer: undefined,
        oidcAudience: undefined,
        filePosture: 'audit',
        networkPosture: 'audit',
        capabilitiesPosture: 'audit',
        unknownPosture: 'audit',
        logLevel: 'info',
      },
      diagnostics: [],
    });
  });

  test('take the node from NODE_NAME, unless it is named otherwise', () => {
    const env = { NODE_NAME: 'worker-1' };
    expect(loadConfig(flagsOf('--kubernetes'), env).settings?.node).toBe('worker-1');
    expect(loadConfig(flagsOf('--kubernetes', '--node', 'other'), env).settings?.node).toBe('other');
  });

  test('need policies and workloads unless Kubernetes has them', () => {
    const { settings, diagnostics } = loadConfig(flagsOf('--policies', '/p'), {});
    expect(settings).toBeUndefined();
    expect(diagnostics.map(({ message }) => message)).toEqual([
      'neither workloads nor kubernetes is set; give --workloads, or say kubernetes: true',
    ]);
    expect(loadConfig(flagsOf('--kubernetes'), {}).settings?.kubernetes).toBe(true);
  });

  test.each([
    [['--listen-address', ':32767'], 'give a certificate and a key'],
    [['--listen-address', ':32767', '--tls-certificate', '/c', '--tls-key', '/k'], 'say who may ask'],
    [['--listen-address', '127.0.0.1:32767'], undefined],
    [
      ['--listen-address', ':1', '--tls-certificate', '/c', '--tls-key', '/k', '--tls-client-ca', '/ca'],
      undefined,
    ],
    [['--tls-certificate', '/c'], 'give both'],
    [['--tls-client-ca', '/ca'], 'give tlsCertificate and tlsKey'],
    [['--oidc-issuer', 'https://issuer.example.com'], 'give both'],
    [['--token-audience', 'belay'], 'say kubernetes: true'],
  ])('open nothing to everyone by mistake: %j', (given, message) => {
    const { settings, diagnostics } = loadConfig(flagsOf(...STAND_ALONE, ...given), {});
    expect(settings === undefined).toBe(message !== undefined);
    expect(diagnostics.map((each) => each.message).join()).toContain(message ?? '');
  });

  test('may be false by flag and by variable', () => {
    expect(flagsOf('--host-policies=false')).toMatchObject({ hostPolicies: false });
    expect(flagsOf('--kubernetes', '--throttle-sec', '60')).toMatchObject({
      kubernetes: true,
      throttleSec: 60,
    });
    vi.stubEnv('BELAY_HOST_POLICIES', 'false');
    expect(flagsOf()).toMatchObject({ hostPolicies: false });
    expect(flagsOf('--host-policies')).toMatchObject({ hostPolicies: true });
  });

  test.each([
    ['--file-posture', 'deny'],
    ['--host-policies', 'maybe'],
    ['--visibility', 'process,files'],
    ['--metrics-address', '9095'],
    ['--metrics-address', ':70000'],
    ['--node', 'Not A Node'],
    ['--cri-socket', 'run/containerd.sock'],
    ['--pin', ''],
    ['--throttle-sec', '0'],
    ['--throttle-sec', '1.5'],
    ['--max-alert-per-sec', 'many'],
  ])('are refused as a flag: %s %s', (flag, value) => {
    expect(() => flagsOf(flag, value)).toThrow(/is invalid/);
  });

  test('are refused as a variable, which is named', () => {
    vi.stubEnv('BELAY_LOG_LEVEL', 'loud');
    expect(() => flagsOf()).toThrow(/BELAY_LOG_LEVEL/);
  });

  test('stand in the help text with their variables, and it says which are live', () => {
    const command = new Command('agent');
    for (const option of configOptions()) command.addOption(option);
    const help = command.helpInformation();
    for (const name of Object.keys(loadConfig(flagsOf('--kubernetes'), {}).settings ?? {})) {
      if (['sinks', 'redact'].includes(name)) {
        expect(configHelp()).toContain(`${name}: `);
        continue;
      }
      const words = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
      expect(help).toContain(`--${words} `);
      expect(help).toContain(`BELAY_${words.replaceAll('-', '_').toUpperCase()}`);
    }
    for (const name of LIVE_SETTINGS) expect(configHelp()).toContain(name);
  });
});

describe('a configuration file', () => {
  test('gives every setting', () => {
    const text = `
policies: /etc/belay/policies
kubernetes: true
node: worker-1.example
metricsAddress: "[::1]:9095"
hostPolicies: false
alertThrottling: true
maxAlertPerSec: 2
unknownPosture: block
logLevel: debug
`;
    expect(readConfig(text, 'c.yaml')).toEqual({
      values: {
        policies: '/etc/belay/policies',
        kubernetes: true,
        node: 'worker-1.example',
        metricsAddress: '[::1]:9095',
        hostPolicies: false,
        alertThrottling: true,
        maxAlertPerSec: 2,
        unknownPosture: 'block',
        logLevel: 'debug',
      },
      diagnostics: [],
    });
  });

  test.each([
    ['nothing', ''],
    ['comments', '# none\n'],
    ['null', '~\n'],
  ])('may hold %s', (_, text) => {
    expect(readConfig(text, 'c.yaml')).toEqual({ values: {}, diagnostics: [] });
  });

  /** `@@` stands before the place that must be reported, and is taken out. */
  test.each([
    ['an unknown setting', 'kubernetes: true\n@@filePostures: block\n', 'did you mean "filePosture"'],
    ['a wrong word', 'filePosture: @@blok\n', 'did you mean "block"'],
    ['text for a flag', 'hostPolicies: @@"yes please"\n', 'must be true or false'],
    ['a word that is no kind', 'visibility: @@process,none\n', 'some of process, file, network and'],
    ['a number for text', 'clusterName: @@7\n', 'must be text'],
    ['a number out of bounds', 'maxAlertPerSec: @@0\n', 'it must be from 1 to'],
    ['a number in quotes', 'throttleSec: @@"30"\n', 'leave them out'],
    ['an empty text', 'pin: @@""\n', 'is empty'],
    ['a port without a colon', 'metricsAddress: @@"9095"\n', ':port'],
    ['a socket that is an address', 'criSocket: @@unix:///run/crio.sock\n', 'absolute path'],
    ['a setting twice', 'pin: /a\n@@pin: /b\n', 'stands twice'],
    ['a list', '@@- kubernetes\n', 'must be a mapping'],
    ['a second document', 'pin: /a\n---\n@@pin: /b\n', 'second document'],
    ['a syntax error', 'pin: @@[', 'YAML syntax'],
    ['an expression that is none', 'redact:\n- "a+"\n- @@"("\n', 'no RE2 expression'],
    ['a sink of no kind', 'sinks:\n- name: x\n  type: @@syslogg\n', 'did you mean "syslog"'],
    ['a file that names another', '@@config: /b\n', 'cannot name another'],
  ])('has %s told at its place', (_, marked, message) => {
    const before = marked.slice(0, marked.indexOf('@@'));
    const line = before.split('\n').length;
    const column = before.length - before.lastIndexOf('\n');
    const { diagnostics } = readConfig(marked.replace('@@', ''), 'c.yaml');
    expect(diagnostics).toHaveLength(1);
    expect(diagnostics[0]).toMatchObject({ at: { file: 'c.yaml', line, column }, severity: 'error' });
    expect(diagnostics[0]?.message).toContain(message);
  });

  test('that is absent is said so', () => {
    const { settings, diagnostics } = loadConfig(flagsOf('--config', file, '--kubernetes'), {});
    expect(settings).toBeUndefined();
    expect(diagnostics[0]).toMatchObject({ at: { file }, severity: 'error' });
  });
});

test('the JSON schema knows the settings and no others', () => {
  expect(configSchema()).toMatchObject({
    type: 'object',
    additionalProperties: false,
    properties: {
      filePosture: { enum: ['audit', 'block'], default: 'audit' },
      hostPolicies: { type: 'boolean', default: true },
      throttleSec: { type: 'integer', minimum: 1, maximum: 86_400, default: 30 },
      metricsAddress: { type: 'string', pattern: expect.stringContaining('6553') },
    },
  });
});

describe('while the agent runs', () => {
  let changes: ConfigChange[];
  let told: Diagnostic[];
  let watch: { close(): void };

  function start(text: string, ...args: string[]): Settings {
    writeFileSync(file, text);
    changes = [];
    told = [];
    const flags = flagsOf('--config', file, ...args);
    const { settings } = loadConfig(flags, {});
    if (settings === undefined) throw new Error('the configuration of the test is wrong');
    watch = watchConfig({
      flags,
      env: {},
      settings,
      onChange: (change) => changes.push(change),
      onDiagnostics: (diagnostics) => told.push(...diagnostics),
    });
    return settings;
  }
  afterEach(() => watch.close());

  const rewrite = (text: string) => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  };

  test('live settings change, and of the others it is said that they wait', async () => {
    start('kubernetes: true\nfilePosture: audit\n');
    rewrite('kubernetes: true\nfilePosture: block\nlogLevel: debug\nhostPolicies: false\nvisibility: file\n');
    await vi.waitFor(() => expect(changes).toHaveLength(1));
    expect(changes[0]).toMatchObject({
      changed: ['visibility', 'filePosture', 'logLevel'],
      restart: ['hostPolicies'],
    });
    expect(changes[0]?.settings).toMatchObject({
      filePosture: 'block',
      logLevel: 'debug',
      hostPolicies: true,
    });
    rewrite('kubernetes: true\nfilePosture: block\nlogLevel: debug\nvisibility: file\n');
    await vi.waitFor(() => expect(changes).toHaveLength(2));
    expect(changes[1]).toMatchObject({ changed: [], restart: [] });
  });

  test('a bad file keeps the last good one, and its line is told once', async () => {
    start('kubernetes: true\n');
    rewrite('kubernetes: true\nfilePosture: deny\n');
    await vi.waitFor(() => expect(told).toHaveLength(1));
    expect(told[0]).toMatchObject({ at: { file, line: 2, column: 14 }, severity: 'error' });
    expect(changes).toEqual([]);
    rewrite('kubernetes: true\nfilePosture: block\n');
    await vi.waitFor(() => expect(changes).toHaveLength(1));
    expect(changes[0]?.changed).toEqual(['filePosture']);
    expect(told).toHaveLength(1);
  });

  test('a flag stays before the file', async () => {
    start('kubernetes: true\n', '--file-posture', 'audit');
    rewrite('kubernetes: true\nfilePosture: block\nnetworkPosture: block\n');
    await vi.waitFor(() => expect(changes).toHaveLength(1));
    expect(changes[0]?.changed).toEqual(['networkPosture']);
    expect(changes[0]?.settings.filePosture).toBe('audit');
  });

  test('a file that vanishes and comes back changed is read', async () => {
    start('kubernetes: true\n');
    rmSync(file);
    await vi.waitFor(() => expect(told).toHaveLength(1), 5000);
    rewrite('kubernetes: true\nunknownPosture: block\n');
    await vi.waitFor(() => expect(changes).toHaveLength(1), 5000);
    expect(changes[0]?.changed).toEqual(['unknownPosture']);
  });

  test("a mounted ConfigMap's file is followed through its links", async () => {
    writeFileSync(join(directory, 'two'), 'kubernetes: true\nlogLevel: warn\n');
    symlinkSync('one', join(directory, '..data'));
    symlinkSync('..data', file);
    start('kubernetes: true\n');
    symlinkSync('two', join(directory, '..new'));
    renameSync(join(directory, '..new'), join(directory, '..data'));
    await vi.waitFor(() => expect(changes).toHaveLength(1), 5000);
    expect(changes[0]?.changed).toEqual(['logLevel']);
  });
});
