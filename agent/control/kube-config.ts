import { existsSync, readFileSync, statSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';

/**
 * How to reach the API server, and as whom. `@kubernetes/client-node`'s KubeConfig can do more and fits as well; the agent
 * does without it, since loading it takes more memory than all the rest of the agent.
 */
export interface KubeConfig {
  getCurrentCluster(): { readonly server: string } | null;
  /** Adds certificates and credentials, as they are now: tokens are renewed in their files. */
  applyToHTTPSOptions(options: RequestOptions): void | Promise<void>;
}

const POD = '/var/run/secrets/kubernetes.io/serviceaccount';

/** From the pod's service account. @throws Error when this is no pod */
export function configOfPod(env: NodeJS.ProcessEnv = process.env, folder = POD): KubeConfig {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = env;
  if (!host || !existsSync(`${folder}/token`))
    throw new Error('this is not a pod with a service account; name a kubeconfig file with --kubeconfig');
  const server = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
  return access(server, { ca: inFile(`${folder}/ca.crt`), token: inFile(`${folder}/token`) });
}

interface Cluster {
  readonly server?: string;
  readonly 'certificate-authority'?: string;
  readonly 'certificate-authority-data'?: string;
  readonly 'insecure-skip-tls-verify'?: boolean;
  readonly 'tls-server-name'?: string;
}

interface User {
  readonly token?: string;
  readonly tokenFile?: string;
  readonly 'client-certificate'?: string;
  readonly 'client-certificate-data'?: string;
  readonly 'client-key'?: string;
  readonly 'client-key-data'?: string;
  readonly exec?: object;
  readonly 'auth-provider'?: object;
}

interface File {
  readonly 'current-context'?: string;
  readonly contexts?: readonly { name: string; context: { cluster: string; user: string } }[];
  readonly clusters?: readonly { name: string; cluster: Cluster }[];
  readonly users?: readonly { name: string; user: User }[];
}

/** From the current context of a kubeconfig file. @throws Error that says what is wrong with the file */
export function configOfFile(path: string): KubeConfig {
  const fault = (what: string) => new Error(`${path}: ${what}`);
  let file: File;
  try {
    file = (parse(readFileSync(path, 'utf8')) as File | null) ?? {};
  } catch (error) {
    throw fault(error instanceof Error ? error.message : String(error));
  }
  const find = <T extends { name: string }>(
    list: readonly T[] | undefined,
    name: string | undefined,
    what: string,
  ) => {
    const found = list?.find((each) => each.name === name);
    if (found === undefined) throw fault(`there is no ${what} "${name ?? ''}"; is it a kubeconfig?`);
    return found;
  };
  const { context } = find(file.contexts, file['current-context'], 'context');
  const { cluster } = find(file.clusters, context.cluster, 'cluster');
  const { user } = find(file.users, context.user, 'user');
  if (!cluster.server) throw fault(`cluster "${context.cluster}" has no server`);
  if (user.exec || user['auth-provider'])
    throw fault(`user "${context.user}" asks another program for credentials; use a token or a certificate`);
  const beside = (name: string) => resolve(dirname(path), name);
  const either = (data: string | undefined, name: string | undefined) =>
    data ? () => Buffer.from(data, 'base64') : name ? inFile(beside(name)) : undefined;
  const { token, tokenFile } = user;
  return access(cluster.server, {
    ca: either(cluster['certificate-authority-data'], cluster['certificate-authority']),
    cert: either(user['client-certificate-data'], user['client-certificate']),
    key: either(user['client-key-data'], user['client-key']),
    token: tokenFile ? inFile(beside(tokenFile)) : token ? () => token : undefined,
    servername: cluster['tls-server-name'],
    insecure: cluster['insecure-skip-tls-verify'],
  });
}

type Secret = (() => string | Buffer) | undefined;

interface Access {
  readonly ca?: Secret;
  readonly cert?: Secret;
  readonly key?: Secret;
  readonly token?: Secret;
  readonly servername?: string;
  readonly insecure?: boolean;
}

function access(server: string, { ca, cert, key, token, servername, insecure }: Access): KubeConfig {
  return {
    getCurrentCluster: () => ({ server }),
    applyToHTTPSOptions: (options) => {
      options.ca = ca?.();
      options.cert = cert?.();
      options.key = key?.();
      if (servername) options.servername = servername;
      if (insecure) options.rejectUnauthorized = false;
      if (token)
        options.headers = { ...options.headers, authorization: `Bearer ${token().toString().trim()}` };
    },
  };
}

/** What a file holds, read again when it has changed. */
function inFile(path: string): () => string {
  let version = '';
  let text = '';
  return () => {
    const { mtimeMs, ino, size } = statSync(path);
    const now = `${mtimeMs} ${ino} ${size}`;
    if (now !== version) {
      text = readFileSync(path, 'utf8');
      version = now;
    }
    return text;
  };
}
