import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AlertRecord } from '../../agent/event/record.js';
import { EventStream } from '../../agent/event/stream.js';
import { Enforcer } from '../../agent/kernel/enforcer.js';
import { Kernel } from '../../agent/kernel/kernel.js';
import { compile } from '../../agent/policy/compile.js';
import { enums } from '../../agent/policy/layout.js';
import type { Policy, Rule } from '../../agent/policy/model.js';
import { policies, postures } from '../oracle/generate.js';
import { judgeByRules } from '../oracle/oracle.js';
import type { Facts, FileOperation, RuleName, Subject, Verdict } from '../oracle/request.js';
import { ACT } from './harness.js';

/** The program that acts, and what it acts on: names of the alphabet that generated policies are made of. */
const PROGRAM = '/b/b';
const DIRECTORIES = ['/a', '/a/b', '/b', '/ab'];
const FILES = ['/a/a', '/a/ab', '/a/b/a', '/a/b/ba', '/b/é', '/ab/.a', '/ba'];
/** Every other file is not the caller's own. */
const OTHERS = new Set(FILES.filter((_, i) => i % 2 === 1));
const SOCKETS = [
  ['tcp', enums.socket_kind.SOCKET_TCP],
  ['udp', enums.socket_kind.SOCKET_UDP],
  ['icmp', enums.socket_kind.SOCKET_ICMP_RAW],
  ['raw', enums.socket_kind.SOCKET_IP_RAW],
  ['packet', enums.socket_kind.SOCKET_PACKET],
  ['unix-stream', enums.socket_kind.SOCKET_UNIX_STREAM],
] as const;
const SETS = 25;
const CGROUP = '/sys/fs/cgroup/oracle';

const latin1 = (text: string) => Buffer.from(text).toString('latin1');
const subject: Subject = { programs: [latin1(PROGRAM)], parents: [] };

let actor: ChildProcess;
let answers: AsyncIterator<string>;
let kernel: Kernel;

async function act(...words: readonly string[]): Promise<string> {
  actor.stdin?.write(`${words.join('\t')}\n`);
  return (await answers.next()).value;
}

beforeAll(async () => {
  for (const directory of DIRECTORIES) mkdirSync(directory, { recursive: true });
  for (const file of [PROGRAM, ...FILES]) {
    copyFileSync(ACT, file);
    chmodSync(file, 0o755);
    if (OTHERS.has(file)) chownSync(file, 7, 7);
  }
  mkdirSync(CGROUP);
  actor = spawn('/bin/sh', ['-c', `echo $$ > ${CGROUP}/cgroup.procs; exec ${PROGRAM} -serve`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  if (!actor.stdout) throw new Error('no pipe');
  answers = createInterface({ input: actor.stdout })[Symbol.asyncIterator]();
  expect(await act('read', '/etc/passwd')).toBe('ok');
  // every denial is a record of its own
  kernel = new Kernel({ foldWindowNs: 0n });
});

afterAll(() => {
  kernel?.close();
  actor?.kill('SIGKILL');
  for (const directory of ['/a', '/b', '/ab', '/ba']) rmSync(directory, { recursive: true, force: true });
});

/**
 * Killing the actor would end the test: what kills, blocks. Presets are about other objects, and without its
 * capabilities the actor may not open what it does not own, whatever the rules for files say.
 */
function tame(all: readonly Policy[]): Policy[] {
  const block = (rule: Rule): Rule =>
    rule.action === 'Kill' || rule.action === 'KillContainer' ? ({ ...rule, action: 'Block' } as Rule) : rule;
  return all.map((policy) => ({
    ...policy,
    rules: policy.rules.filter((r) => r.class !== 'preset' && r.class !== 'capabilities').map(block),
  }));
}

it('the kernel gives the verdicts of the reference interpreter, and names its rules', {
  timeout: 600_000,
}, async () => {
  const samples = fc.sample(fc.tuple(policies.map(tame), postures), { numRuns: SETS, seed: 20_250_101 });
  const seen: AlertRecord[] = [];
  let asked = 0;
  let denied = 0;
  for (const [set, posture] of samples) {
    if (!compile(set, posture).ok) continue;
    const enforcer = new Enforcer(kernel, posture);
    const stream = new EventStream(
      kernel,
      enforcer,
      { node: 'node', cluster: 'default' },
      { write: (r) => r.type === 'alert' && seen.push(r), keep: () => {} },
    );
    void stream.start();
    expect(enforcer.setPolicies(set)).toEqual([]);
    const workload = {
      namespace: 'shop',
      name: 'w',
      labels: new Map(),
      container: 'c',
      containerId: '',
      image: '',
    };
    expect(enforcer.setWorkloads([{ ...workload, cgroup: CGROUP }])).toEqual([]);
    const judge = judgeByRules(set, posture);
    const ask = async (words: readonly string[], questions: readonly Verdict[]) => {
      seen.length = 0;
      const answer = await act(...words);
      while (kernel.ringPositions().some(([read, written]) => read < written)) await setImmediate();
      const refusal = questions.find((q) => q.denied !== undefined)?.denied;
      const where = `${answer}: ${words.join(' ')} under ${JSON.stringify(set, (_, v) => (v instanceof Map ? [...v] : v))}`;
      expect(answer === 'EACCES', `${where} ${JSON.stringify(refusal)}`).toBe(refusal !== undefined);
      // a program that was run is denied things of its own, and a raw socket asks for a capability too
      const told = seen.find(
        (r) => r.verdict === 'Denied' && (words[1] ? r.object.path === words[1] : r.operation === 'socket'),
      );
      expect(told && ({ policy: told.policy, rule: told.rule } satisfies RuleName), where).toEqual(
        refusal && { policy: refusal.policy, rule: refusal.rule },
      );
      asked++;
      if (refusal) denied++;
    };
    for (const file of FILES) {
      const facts: Facts = { isOwner: !OTHERS.has(file), hasTty: false, args: [], isSelf: false };
      const about = (operation: FileOperation, parents: readonly string[] = []) =>
        judge({ kind: 'file', operation, name: latin1(file), subject: { ...subject, parents }, facts });
      await ask(['read', file], [about('read')]);
      await ask(['write', file], [about('write')]);
      await ask(['map', file], [about('read'), about('map')]);
      await ask(['exec', file], [about('load'), about('exec', [latin1(PROGRAM)])]);
    }
    for (const [verb, socket] of SOCKETS) {
      const facts: Facts = { isOwner: false, hasTty: false, args: [], isSelf: false };
      await ask([verb], [judge({ kind: 'socket', socket, subject, facts })]);
    }
    enforcer.setWorkloads([]);
    stream.close();
  }
  console.log(`${asked} questions, ${denied} denied`);
  expect(asked).toBeGreaterThan(500);
  expect(denied).toBeGreaterThan(50);
});
