import { Command } from 'commander';
import type { BelayRecord, ObjectRecord, ProcessRecord } from '../event/record.js';
import { safeJson } from '../event/safe-json.js';
import type { RunningProcess } from '../workload/processes.js';
import { socketOption, withAgent } from './client.js';
import { printable } from './event-columns.js';
import { colours } from './terminal.js';

/** `belay tree`: which program started which, in a workload. */
export function treeCommand(): Command {
  return new Command('tree')
    .description(
      'the process tree of a workload, of what runs now and what the agent remembers of processes and of alerts',
    )
    .argument('<namespace/pod>', 'the workload; /pod for one without a namespace')
    .argument('[container]', 'only this container')
    .addOption(socketOption())
    .option('--json', 'print the tree as JSON')
    .addHelpText(
      'after',
      '\nHow processes begin and end is told where they are visible (`visibility: process`); elsewhere there is what runs now, and who acted as alerts say.',
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
          const asked = { namespace, pod, container: container ?? '' };
          const { processes } = await agent.ask<{ processes: RunningProcess[] }>('Processes', asked);
          const roots = treeOf(records, processes);
          if (roots.length === 0) throw new Error(`nothing is known of ${workload}: is it on this node?`);
          process.stdout.write(json ? `${safeJson(roots, 2)}\n` : `${draw(roots).join('\n')}\n`);
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
  /** Unix time of its end, ns; and how it ended: by itself, or by a signal. */
  ended?: string;
  exitCode?: number;
  exitSignal?: number;
  denied: number;
  reported: number;
  readonly children: TreeNode[];
}

interface Known {
  /** Without children, until everything has been read. */
  node: TreeNode;
  /** Who started it; absent = nobody of whom more is known than `parent`. */
  above?: Known;
  parent: ProcessRecord['parent'];
  /** Only a fork has told of it. */
  forked: boolean;
}

/**
 * Processes by who started them, as they were last told of; those that run now only if nothing else tells of them, as they were
 * there before the agent. Parents of which nothing else is known are named by what their children say of them.
 */
export function treeOf(records: readonly BelayRecord[], running: readonly RunningProcess[] = []): TreeNode[] {
  const processes = new Processes();
  for (const record of records) {
    if (!('process' in record) || !record.process) continue;
    if (record.type === 'exec') processes.exec(record.process, record.time);
    else if (record.type === 'alert') {
      const { node } = processes.who(record.process);
      if (record.verdict === 'Passed') node.reported += Number(record.count);
      else node.denied += Number(record.count);
    } else if (record.type !== 'log') continue;
    else if (record.operation === 'fork') processes.fork(record.process, record.object, record.time);
    else if (record.operation === 'exit') processes.exit(record.process, record.object, record.time);
  }
  for (const process of running) processes.runs(process);
  return processes.roots();
}

class Processes {
  readonly #all: Known[] = [];
  /** Those that have not ended: a process number that is used again is its newest owner's. */
  readonly #current = new Map<number, Known>();
  /** By each program that they ran, and also those that have ended: alerts may be told of late. */
  readonly #byProgram = new Map<string, Known>();
  /** Those whose parent may still be told of, by its number. */
  readonly #orphans = new Map<number, Known[]>();

  who(actor: ProcessRecord): Known {
    return (
      this.#byProgram.get(`${actor.pid} ${actor.execId}`) ??
      this.#current.get(actor.pid) ??
      this.#meet(actor, nodeOf(actor))
    );
  }

  exec(actor: ProcessRecord, time: string): void {
    const before = this.#current.get(actor.pid);
    const node = nodeOf(actor, time);
    // a program that execs another stays the same process: its children and deeds are still its own
    if (before !== undefined && (before.forked || before.parent.pid === actor.parent.pid)) {
      const { denied, reported } = before.node;
      this.#keep(Object.assign(before, { node: { ...node, denied, reported }, forked: false }), actor.execId);
      before.parent = actor.parent;
    } else this.#meet(actor, node);
  }

  fork(actor: ProcessRecord, { pid }: ObjectRecord, time: string): void {
    if (pid === undefined) return;
    const above = this.who(actor);
    const node = { ...nodeOf(actor, time), pid };
    const parent = { pid: actor.pid, program: node.program };
    // who spoke of a parent of that number meant another
    this.#orphans.delete(pid);
    const child = { node, above, parent, forked: true };
    this.#all.push(child);
    this.#keep(child, actor.execId);
  }

  runs(process: RunningProcess): void {
    const { pid, comm, uid, started, parent } = process;
    if (this.#current.has(pid)) return;
    const command = process.arguments.join(' ') || comm;
    const node = { pid, program: comm, command, uid, started, ...{ denied: 0, reported: 0, children: [] } };
    this.#meet({ pid, execId: '', parent }, node);
  }

  exit(actor: ProcessRecord, { exitCode, exitSignal }: ObjectRecord, time: string): void {
    const known = this.who(actor);
    Object.assign(known.node, { ended: time, exitCode, exitSignal });
    if (this.#current.get(actor.pid) === known) this.#current.delete(actor.pid);
  }

  #keep(known: Known, execId: string): void {
    this.#current.set(known.node.pid, known);
    this.#byProgram.set(`${known.node.pid} ${execId}`, known);
  }

  #meet({ pid, execId, parent }: Pick<ProcessRecord, 'pid' | 'execId' | 'parent'>, node: TreeNode): Known {
    const above = parent.pid === pid ? undefined : this.#current.get(parent.pid);
    const known: Known = { node, above, parent, forked: false };
    for (const orphan of this.#orphans.get(pid) ?? []) if (!isBelow(known, orphan)) orphan.above = known;
    this.#orphans.delete(pid);
    if (above === undefined) this.#orphans.set(parent.pid, [...(this.#orphans.get(parent.pid) ?? []), known]);
    this.#all.push(known);
    this.#keep(known, execId);
    return known;
  }

  roots(): TreeNode[] {
    const roots: TreeNode[] = [];
    const strangers = new Map<string, TreeNode>();
    for (const { node, above, parent } of this.#all) {
      if (above !== undefined) {
        above.node.children.push(node);
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
}

function nodeOf(actor: ProcessRecord, started?: string): TreeNode {
  return {
    pid: actor.pid,
    program: actor.program || actor.comm,
    command: actor.arguments.length > 0 ? actor.arguments.join(' ') : actor.program || actor.comm,
    uid: actor.uid,
    ...(started !== undefined && { started }),
    ...{ denied: 0, reported: 0, children: [] },
  };
}

/** Whether it is the other, or comes from it. */
function isBelow(known: Known, other: Known): boolean {
  for (let at: Known | undefined = known; at !== undefined; at = at.above) if (at === other) return true;
  return false;
}

export function draw(nodes: readonly TreeNode[], before = ''): string[] {
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
      ...(node.ended === undefined ? [] : [colours.gray(endOf(node))]),
      ...deeds,
    ].join(' ');
    return [
      `${before}${last ? '└─ ' : '├─ '}${label}`,
      ...draw(node.children, `${before}${last ? '   ' : '│  '}`),
    ];
  });
}

function endOf({ exitCode, exitSignal }: TreeNode): string {
  if (exitSignal !== undefined) return `ended by signal ${exitSignal}`;
  return exitCode ? `ended with code ${exitCode}` : 'ended';
}
