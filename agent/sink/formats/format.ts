import { kubeArmorOf } from '../../event/kubearmor.js';
import type { BelayRecord } from '../../event/record.js';
import { cef } from './cef.js';
import { ecs } from './ecs.js';
import { ocsf } from './ocsf.js';
import { millisecondsOf, placeOf, safeJson, sentenceOf } from './words.js';

/** How a record is written; pure, and one line without control characters. */
export type Format = (record: BelayRecord) => string;

/** What KubeArmor's feeder calls a message: it has no other form for what is neither alert nor log. */
function kubeArmorMessage(record: BelayRecord): object {
  const { node, cluster } = placeOf(record);
  const milliseconds = millisecondsOf(record);
  return {
    Timestamp: Math.floor(milliseconds / 1000),
    UpdatedTime: new Date(milliseconds).toISOString(),
    ClusterName: cluster,
    HostName: node,
    Type: record.type,
    Source: 'belay',
    Level: 'WARN',
    Message: sentenceOf(record),
  };
}

export const FORMATS = {
  belay: safeJson,
  kubearmor: (record: BelayRecord) =>
    safeJson({ ...(kubeArmorOf(record) ?? kubeArmorMessage(record)), EventID: record.id }),
  ecs: (record: BelayRecord) => safeJson(ecs(record)),
  ocsf: (record: BelayRecord) => safeJson(ocsf(record)),
  cef,
} as const satisfies Record<string, Format>;

export type FormatName = keyof typeof FORMATS;
export const FORMAT_NAMES = Object.keys(FORMATS) as FormatName[];
