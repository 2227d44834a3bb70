import { Command } from 'commander';
import type { BelayRecord, ProcessRecord } from '../event/record.js';
import { socketOption, withAgent } from './client.js';
import { printable } from './event-columns.js';
import { colours } from './terminal.js';

/** `belay tree`: which program started which, in a workload. */
export function treeCommand(): Command {
  return new Command('tree')
    .description(
      'the process tree of a workload, from what the agent remembers of programs that started and of alerts',
    )
    .argument('<namespace/pod>', 'the workload; /pod for one without a namespace')
    .argument('[container]', 'only this container')
    .addOption(socketOption())
    .option('--json', 'print the tree as JSON')
    .addHelpText(
      'after',
      '\nPrograms that start are told where processes are visible (`visibility: process`); elsewhere only alerts say who acted.',
    )
    .action(
      (
        workload: string,
        container: string | undefined,
        { socket, json }: { socket: string; json?: boolean },
      ) =>
        withAgent('tree', socket, async (agent) => {
          const [, namespace, pod] = /^([^/]*)\/([^/]+)$/.exec(workload) ?? [];
          if (pod === undefined) throw new Error(`"${workload}" is no workload; write namespace/pod`);
          const records: BelayRecord[] = [];
          for await (const record of agent.records({ namespace, pod, after: '0', follow: 'false' }))
            if (container === undefined || ('container' in record && record.container === container))
              records.push(record);
          const roots = treeOf(records);
          if (roots.length === 0)
            throw new Error(`nothing is remembered of ${workload}; are its processes visible?`);
          process.stdout.write(
            json ? `${JSON.stringify(roots, undefined, 2)}\n` : `${draw(roots).join('\n')}\n`,
          );
        }),
    );
}

export interface TreeNode {
  readonly pid: number;
  readonly program: string;
  readonly command: string;
  readonly uid?: number;
  /** Unix time of its start, ns; absent if only its deeds or its children tell of it. */
  readonly started?: string;
  denied: number;
  reported: number;
  readonly children: TreeNode[];
}

interface Known {
  node: TreeNode;
  parent: { readonly pid: number; readonly program: string };
}

/**
 * Processes by their parents, as they were last told of; a process number that is used again is its newest owner's from then
 * on. Parents of which nothing else is known are named by what their children say of them.
 */
export function treeOf(records: readonly BelayRecord[]): TreeNode[] {
  const all: Known[] = [];
  const current = new Map<number, Known>();
  const learn = (actor: ProcessRecord, started?: string): Known => {
    const before = current.get(actor.pid);
    const node: TreeNode = {
      pid: actor.pid,
      program: actor.program || actor.comm,
      command: actor.arguments.length > 0 ? actor.arguments.join(' ') : actor.program || actor.comm,
      uid: actor.uid,
      ...(started !== undefined && { started }),
      ...{ denied: 0, reported: 0, children: [] },
    };
    const known = { node, parent: actor.parent };
    // a program that execs another stays the same process: its children and deeds are still its own
    if (before !== undefined && before.parent.pid === actor.parent.pid) {
      node.children.push(...before.node.children);
      node.denied = before.node.denied;
      node.reported = before.node.reported;
      all.splice(all.indexOf(before), 1);
    }
    all.push(known);
    current.set(actor.pid, known);
    return known;
  };
  for (const record of records) {
    if (!('process' in record) || !record.process) continue;
    if (record.type === 'exec') learn(record.process, record.time);
    else if (record.type === 'alert') {
      const { node } = current.get(record.process.pid) ?? learn(record.process);
      if (record.verdict === 'Passed') node.reported += Number(record.count);
      else node.denied += Number(record.count);
    }
  }
  const roots: TreeNode[] = [];
  const strangers = new Map<string, TreeNode>();
  for (const { node, parent } of all) {
    const known = current.get(parent.pid)?.node;
    if (known !== undefined && known !== node) {
      known.children.push(node);
      continue;
    }
    const key = `${parent.pid} ${parent.program}`;
    let stranger = strangers.get(key);
    if (stranger === undefined) {
      stranger = {
        ...{ pid: parent.pid, program: parent.program, command: parent.program },
        ...{ denied: 0, reported: 0, children: [] },
      };
      strangers.set(key, stranger);
      roots.push(stranger);
    }
    stranger.children.push(node);
  }
  return roots;
}

function draw(nodes: readonly TreeNode[], before = ''): string[] {
  return nodes.flatMap((node, i) => {
    const last = i === nodes.length - 1;
    const deeds = [
      ...(node.denied > 0 ? [colours.red(`${node.denied} denied`)] : []),
      ...(node.reported > 0 ? [colours.yellow(`${node.reported} reported`)] : []),
    ];
    const label = [
      colours.gray(String(node.pid)),
      printable(node.command || '?'),
      ...(node.uid === undefined ? [] : [colours.gray(`uid ${node.uid}`)]),
      ...deeds,
    ].join(' ');
    return [
      `${before}${last ? '└─ ' : '├─ '}${label}`,
      ...draw(node.children, `${before}${last ? '   ' : '│  '}`),
    ];
  });
}
