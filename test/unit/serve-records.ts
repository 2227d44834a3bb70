import type { AlertRecord, ExecRecord } from '../../agent/event/record.js';
import { alertOf, execOf as anyExec } from './records.js';

/** Where KubeArmor's form of a record says these otherwise. */
const SERVED = { id: 'a-7', labels: { tier: 'front', app: 'web' } } as const;

/** A denied exec, but for what is said otherwise. */
export const alertRecord = (fields: Partial<AlertRecord>): AlertRecord =>
  alertOf({ ...SERVED, tags: ['MITRE_T1059', 'shell'], ...fields });

export const execOf = (fields: Partial<ExecRecord>): ExecRecord => anyExec({ ...SERVED, ...fields });
