import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { unreadable } from '../policy/files.js';

export interface PemFault {
  readonly file: string;
  readonly message: string;
}

/** Files of PEM, each with the setting that names it. */
export interface PemFiles {
  readonly ca: readonly [setting: string, file: string | undefined];
  readonly cert: readonly [setting: string, file: string | undefined];
  readonly key: readonly [setting: string, file: string | undefined];
}

/** Why TLS cannot be spoken with what is in the files. */
export function pemFaults(files: PemFiles): PemFault[] {
  const found: PemFault[] = [];
  const read: SecureContextOptions = {};
  for (const part of ['ca', 'cert', 'key'] as const) {
    const [setting, file] = files[part];
    if (file === undefined) continue;
    try {
      read[part] = readFileSync(file, 'utf8');
      if (part !== 'key' && !read[part].includes('BEGIN CERTIFICATE'))
        found.push({ file, message: `${setting}: it holds no certificate; it must be PEM` });
    } catch (error) {
      found.push({ file, message: `${setting}: ${unreadable(error)}` });
    }
  }
  if (found.length > 0) return found;
  const attempt = ([setting, file]: PemFiles['ca'], options: SecureContextOptions) => {
    if (file === undefined || found.length > 0) return;
    try {
      createSecureContext(options);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      found.push({ file, message: `${setting}: it cannot be used (${why})` });
    }
  };
  attempt(files.ca, { ca: read.ca });
  attempt(files.cert, { cert: read.cert });
  attempt(files.key, { cert: read.cert, key: read.key });
  return found;
}
