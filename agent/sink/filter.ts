import type { BelayRecord } from '../event/record.js';
import { nameMatches } from '../policy/selector.js';
import { ofAgent, severityOf } from './formats/words.js';

/** Which records a sink is given; what is absent does not matter. */
export interface Filter {
  readonly types?: readonly string[];
  /** Names or globs; records without a namespace are of the namespace "". */
  readonly namespaces?: readonly string[];
  readonly exceptNamespaces?: readonly string[];
  /** Alerts only: others pass. */
  readonly verdicts?: readonly string[];
  /** Alerts only. */
  readonly policies?: readonly string[];
  /** Alerts only: those with one of these tags. */
  readonly tags?: readonly string[];
  readonly minSeverity?: number;
}

/** Whether a record is for a sink. What is missing and what failed is, whatever their severity, and of the namespaces that it is for. */
export function passes(filter: Filter, record: BelayRecord): boolean {
  const { types, namespaces, exceptNamespaces, verdicts, policies, tags, minSeverity } = filter;
  if (types && !types.includes(record.type)) return false;
  if (minSeverity !== undefined && !ofAgent(record) && severityOf(record) < minSeverity) return false;
  if (namespaces || exceptNamespaces) {
    const namespace = 'namespace' in record ? record.namespace : '';
    if (
      namespaces &&
      !(ofAgent(record) && namespace === '') &&
      !namespaces.some((glob) => nameMatches(glob, namespace))
    )
      return false;
    if (exceptNamespaces?.some((glob) => nameMatches(glob, namespace))) return false;
  }
  if (record.type !== 'alert') return true;
  if (verdicts && !verdicts.includes(record.verdict)) return false;
  if (policies && !policies.some((glob) => nameMatches(glob, record.policy))) return false;
  return !tags || record.tags.some((tag) => tags.includes(tag));
}
