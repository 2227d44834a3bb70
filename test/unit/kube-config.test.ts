import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { configOfFile, configOfPod, type KubeConfig } from '../../agent/control/kube-config.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-kube-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function options(config: KubeConfig): RequestOptions {
  const options: RequestOptions = {};
  config.applyToHTTPSOptions(options);
  return options;
}

function file(user: object, cluster: object = { server: 'https://10.0.0.1:6443' }): string {
  const path = join(folder, 'config');
  writeFileSync(
    path,
    JSON.stringify({
      'current-context': 'here',
      contexts: [{ name: 'here', context: { cluster: 'one', user: 'me' } }],
      clusters: [{ name: 'one', cluster }],
      users: [{ name: 'me', user }],
    }),
  );
  return path;
}

describe('a kubeconfig file', () => {
  it('says where the server is and gives a token', () => {
    const config = configOfFile(file({ token: 'secret' }));
    expect(config.getCurrentCluster()).toEqual({ server: 'https://10.0.0.1:6443' });
    expect(options(config).headers).toEqual({ authorization: 'Bearer secret' });
  });

  it('gives certificates, written in it or lying beside it', () => {
    writeFileSync(join(folder, 'ca.crt'), 'authority');
    const cert = Buffer.from('certificate').toString('base64');
    const key = Buffer.from('key').toString('base64');
    const cluster = { server: 'https://a', 'certificate-authority': 'ca.crt', 'tls-server-name': 'b' };
    const made = options(
      configOfFile(file({ 'client-certificate-data': cert, 'client-key-data': key }, cluster)),
    );
    expect(made.ca).toBe('authority');
    expect(String(made.cert)).toBe('certificate');
    expect(String(made.key)).toBe('key');
    expect(made.servername).toBe('b');
  });

  it.each([
    ['is none', '[]', /there is no context/],
    ['is not YAML', '{', /config: /],
    [
      'names no server',
      '{"current-context":"a","contexts":[{"name":"a","context":{"cluster":"c","user":"u"}}],"clusters":[{"name":"c","cluster":{}}],"users":[{"name":"u","user":{}}]}',
      /cluster "c" has no server/,
    ],
  ])('that %s is refused with the reason', (_what, text, why) => {
    const path = join(folder, 'config');
    writeFileSync(path, text);
    expect(() => configOfFile(path)).toThrow(why);
  });

  it('that wants another program to be run is refused', () => {
    expect(() => configOfFile(file({ exec: { command: 'aws' } }))).toThrow(/use a token or a certificate/);
  });
});

describe('a pod', () => {
  it('has its service account’s token, as it is now', () => {
    writeFileSync(join(folder, 'token'), 'one\n');
    writeFileSync(join(folder, 'ca.crt'), 'authority');
    const config = configOfPod(
      { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' },
      folder,
    );
    expect(config.getCurrentCluster()?.server).toBe('https://[fd00::1]:443');
    expect(options(config)).toMatchObject({ ca: 'authority', headers: { authorization: 'Bearer one' } });
    writeFileSync(join(folder, 'token'), 'two\n');
    utimesSync(join(folder, 'token'), 1, 1);
    expect(options(config).headers).toEqual({ authorization: 'Bearer two' });
  });

  it('without one says what to do', () => {
    expect(() => configOfPod({}, folder)).toThrow(/--kubeconfig/);
  });
});
