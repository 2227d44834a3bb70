import { unsafe } from '../serve/authenticate.js';
import type { Settings } from './settings.js';

/** What of the settings for clients does not go together. */
export function servedWrongly(settings: Settings): string[] {
  const { listenAddress, tlsCertificate, tlsKey, tlsClientCa, tokenAudience, oidcIssuer, oidcAudience } =
    settings;
  const wrong: string[] = [];
  if ((tlsCertificate === undefined) !== (tlsKey === undefined))
    wrong.push('tlsCertificate and tlsKey go together; give both');
  if (tlsClientCa !== undefined && tlsCertificate === undefined)
    wrong.push('tlsClientCa is set without a certificate of its own; give tlsCertificate and tlsKey');
  if ((oidcIssuer === undefined) !== (oidcAudience === undefined))
    wrong.push('oidcIssuer and oidcAudience go together; give both');
  if (tokenAudience !== undefined && !settings.kubernetes)
    wrong.push('tokenAudience is set, and there is no API server to ask; say kubernetes: true');
  if (listenAddress === undefined) return wrong;
  const authenticated = [tlsClientCa, tokenAudience, oidcIssuer].some((way) => way !== undefined);
  const why = unsafe(listenAddress, { tls: tlsCertificate !== undefined, authenticated });
  if (why !== undefined)
    wrong.push(`listenAddress: ${why} (tlsCertificate, tlsKey; tlsClientCa, tokenAudience or oidcIssuer)`);
  return wrong;
}
