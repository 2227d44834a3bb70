import type { PeerCertificate } from 'node:tls';
import type { Credentials } from './access.js';

/** Whom a client certificate names, as the Kubernetes API reads them: the common name, and organisations as groups. */
export function certificateOf(certificate: PeerCertificate | undefined): Credentials['certificate'] {
  const { CN, O } = (certificate?.subject ?? {}) as { CN?: string | string[]; O?: string | string[] };
  const name = [CN].flat()[0];
  if (!name) return undefined;
  const groups = [O].flat().filter((group) => group !== undefined);
  return { name, groups, until: Date.parse(certificate?.valid_to ?? '') };
}
