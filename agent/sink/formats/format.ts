import { type KubeArmorSettings, kubeArmorOf } from '../../event/kubearmor.js';
import type { BelayRecord } from '../../event/record.js';
import { safeJson } from '../../event/safe-json.js';
import { cef } from './cef.js';
import { ecs } from './ecs.js';
import { ocsf } from './ocsf.js';
import { millisecondsOf, placeOf, sentenceOf } from './words.js';

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

/** Sinks are given a record one after the other: those of one format share its text. */
function shared(format: Format): Format {
  let last: BelayRecord | undefined;
  let text = '';
  return (record) => {
    if (record !== last) {
      text = format(record);
      last = record;
    }
    return text;
  };
}

/** @param settings as they are when a record is written */
function kubeArmor(settings?: () => KubeArmorSettings): Format {
  return shared((record) => {
    const form = kubeArmorOf(record, settings?.()) ?? kubeArmorMessage(record);
    return safeJson({ ...form, EventID: record.id });
  });
}

export const FORMATS = {
  belay: shared(safeJson),
  kubearmor: kubeArmor(),
  ecs: shared((record) => safeJson(ecs(record))),
  ocsf: shared((record) => safeJson(ocsf(record))),
  cef: shared(cef),
} as const satisfies Record<string, Format>;

export type FormatName = keyof typeof FORMATS;
export type Formats = Readonly<Record<FormatName, Format>>;

/** KubeArmor's as the settings have it at any moment. */
export const formatsWith = (settings: () => KubeArmorSettings): Formats => ({
  ...FORMATS,
  kubearmor: kubeArmor(settings),
});

export const FORMAT_NAMES = Object.keys(FORMATS) as FormatName[];
