import type { PolicyKind, PolicyScope } from './model.js';

/** The kinds of policies, and the nearest known name to one that nobody knows. */

export const BELAY_API = 'security.belay.dev/v1';
export const KUBEARMOR_API = 'security.kubearmor.com/v1';

export const KINDS: Readonly<Record<PolicyKind, { readonly api: string; readonly scope: PolicyScope }>> = {
  WorkloadPolicy: { api: BELAY_API, scope: 'namespace' },
  ClusterWorkloadPolicy: { api: BELAY_API, scope: 'cluster' },
  HostPolicy: { api: BELAY_API, scope: 'host' },
  KubeArmorPolicy: { api: KUBEARMOR_API, scope: 'namespace' },
  KubeArmorClusterPolicy: { api: KUBEARMOR_API, scope: 'cluster' },
  KubeArmorHostPolicy: { api: KUBEARMOR_API, scope: 'host' },
};

/** ` (did you mean "recursive"?)`, or nothing when no known name is near. */
export function suggestion(written: string, known: readonly string[]): string {
  const near = nearest(written, known);
  return near === undefined ? '' : `; did you mean "${near}"?`;
}

function nearest(written: string, known: readonly string[]): string | undefined {
  if (written.length > 40) return undefined;
  const wanted = written.toLowerCase();
  let best: string | undefined;
  // A third of the letters may be wrong: fewer in short names, which are all near each other.
  let least = Math.min(3, Math.floor(written.length / 3)) + 1;
  for (const name of known) {
    const distance = editDistance(wanted, name.toLowerCase());
    if (distance < least) {
      best = name;
      least = distance;
    }
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
