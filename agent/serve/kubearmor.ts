import { type KubeArmorSettings, kubeArmorLog, kubeArmorOf } from '../event/kubearmor.js';
import type { BelayRecord } from '../event/record.js';
import { visible } from './belay.js';
import { EVERYTHING } from './filter.js';
import type { Methods, Stream } from './grpc.js';
import type { NodeView, WorkloadView } from './node-view.js';
import type { Outlet, Watch } from './watch.js';

/**
 * KubeArmor's feeder.LogService: alerts and logs from now on.
 * @param settings as they are when a record is sent
 */
export function logService(node: NodeView, watch: Watch, settings?: () => KubeArmorSettings): Methods {
  const stream =
    (types: readonly string[], form: (record: BelayRecord) => object | undefined): Stream<object> =>
    (_, access, outlet) =>
      watch.serve(access, { filter: { ...EVERYTHING, types }, untilNow: false }, told(outlet, form));
  return {
    HealthCheck: { unary: ({ nonce }: { nonce: number }) => ({ Retval: nonce }) },
    WatchAlerts: {
      stream: stream(['alert'], (record) =>
        record.type === 'alert' || record.type === 'throttle' ? kubeArmorOf(record) : undefined,
      ),
    },
    WatchLogs: {
      stream: stream(['exec', 'log'], (record) =>
        record.type === 'exec' || record.type === 'log' ? kubeArmorLog(record, settings?.()) : undefined,
      ),
    },
    WatchMessages: { stream: stream(['failure', 'unknown-pod'], (record) => message(record, node)) },
  };
}

/** KubeArmor's policy.ProbeService: which policies reach which containers. */
export function probeService(node: NodeView): Methods {
  return {
    getProbeData: {
      unary: async (_, access) => {
        const all = await visible(node.workloads(), access);
        // a pod whose containers are not told apart yet has none
        const containers = all.filter(({ container }) => container !== '');
        const host = all.filter(({ namespace, name }) => namespace === '' && name !== '');
        return {
          containerList: containers.map(({ container }) => container),
          containerMap: policiesByName(containers),
          hostMap: policiesByName(host),
        };
      },
    },
  };
}

/** KubeArmor's numbers for whether there are policies for a pod. */
const DISABLED = 0;
const ENABLED = 1;

function policiesByName(workloads: readonly WorkloadView[]): Record<string, object> {
  const names = new Map<string, Set<string>>();
  for (const { name, policies } of workloads)
    names.set(name, new Set([...(names.get(name) ?? []), ...policies]));
  const data = ([name, policies]: [string, Set<string>]) => [
    name,
    { policyList: [...policies], policyEnabled: policies.size > 0 ? ENABLED : DISABLED },
  ];
  return Object.fromEntries([...names].map(data));
}

/** An outlet for records in another form; for those that have none, nothing goes out. */
function told(outlet: Outlet, form: (record: BelayRecord) => object | undefined): Outlet {
  return {
    get gone() {
      return outlet.gone;
    },
    begin: () => outlet.begin(),
    onGone: (listener) => outlet.onGone(listener),
    drained: () => outlet.drained(),
    write: (record) => {
      const other = form(record);
      return other === undefined || outlet.write(other as BelayRecord);
    },
  };
}

/** What KubeArmor's agents say of themselves. */
function message(record: BelayRecord, node: NodeView): object | undefined {
  const time = BigInt(record.time) / 1_000_000n;
  const { cluster } = node.health();
  const text =
    record.type === 'failure'
      ? `failed in the kernel programs: ${record.failure}, ${record.count} times`
      : record.type === 'unknown-pod'
        ? `a pod that the agent does not know of: ${record.podUid}`
        : record.type === 'gap'
          ? `${record.lost} events were lost (${record.ring})`
          : undefined;
  if (text === undefined) return undefined;
  return {
    Timestamp: String(time / 1000n),
    UpdatedTime: new Date(Number(time)).toISOString(),
    ClusterName: cluster,
    HostName: record.node,
    Type: 'MessageLog',
    Level: 'WARN',
    Message: text,
  };
}
