import { type Access, Refusal } from './access.js';
import { EVERYTHING, type Filter } from './filter.js';
import type { Methods, Stream } from './grpc.js';
import type { HealthView, NodeView } from './node-view.js';
import type { Watch } from './watch.js';

/** As belay.proto has it. */
export interface WatchMessage extends Omit<Filter, 'since'> {
  readonly after?: string;
  readonly since: string;
  readonly untilNow: boolean;
}

/** The service belay.v1.Belay. */
export function belayService(node: NodeView, watch: Watch): Methods {
  const stream: Stream<WatchMessage> = ({ after, since, untilNow, ...filter }, access, outlet) =>
    watch.serve(
      access,
      {
        filter: { ...EVERYTHING, ...filter, since: BigInt(since) },
        ...(after !== undefined && { after: BigInt(after) }),
        untilNow,
      },
      outlet,
    );
  return {
    Watch: { stream },
    Policies: { unary: async (_, access) => ({ policies: await visible(node.policies(), access) }) },
    Workloads: { unary: async (_, access) => ({ workloads: await visible(node.workloads(), access) }) },
    Processes: {
      unary: async (asked: { namespace: string; pod: string; container: string }, access: Access) => {
        const { namespace, pod, container } = asked;
        if (!(await access.sees(namespace)))
          throw new Refusal('forbidden', `${access.who} may not see namespace "${namespace}"`);
        return { processes: node.processes(namespace, pod, container) };
      },
    },
    Health: { unary: (): HealthView => node.health() },
    Costs: {
      unary: async ({ measure }: { measure: boolean }, access: Access) => {
        if (!(await access.sees('')))
          throw new Refusal('forbidden', `${access.who} may not see what belongs to the node`);
        return node.costs(measure);
      },
    },
  };
}

/** Those that belong to a namespace that the caller may see. */
export async function visible<T extends { readonly namespace: string }>(
  all: readonly T[],
  access: Access,
): Promise<T[]> {
  const seen = new Map<string, boolean>();
  for (const { namespace } of all)
    if (!seen.has(namespace)) seen.set(namespace, await access.sees(namespace));
  return all.filter(({ namespace }) => seen.get(namespace));
}
