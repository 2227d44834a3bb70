import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';

/** Where a secret is: it never stands in the configuration itself. */
export type Secret = { readonly file: string } | { readonly env: string };

/**
 * Read anew each time, so that one that is replaced is taken up.
 * @throws Error that says what is missing
 */
export function readSecret(secret: Secret): string {
  if ('env' in secret) {
    const value = process.env[secret.env];
    if (value === undefined || value === '')
      throw new Error(`the environment has no ${secret.env}; set it, or name a file`);
    return value;
  }
  return readText(secret.file).toString('utf8').trim();
}

function readText(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Files of a TLS client, PEM. */
export interface TlsFiles {
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  /** The name that the peer's certificate must have, where it is not the one connected to. */
  readonly serverName?: string;
}

/** Read anew for each connection, so that certificates that are replaced are taken up. */
export function tlsOptions({ caFile, certFile, keyFile, serverName }: TlsFiles): ConnectionOptions {
  return {
    ...(caFile !== undefined && { ca: readText(caFile) }),
    ...(certFile !== undefined && { cert: readText(certFile) }),
    ...(keyFile !== undefined && { key: readText(keyFile) }),
    ...(serverName !== undefined && { servername: serverName }),
    minVersion: 'TLSv1.2',
  };
}
