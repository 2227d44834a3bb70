import { describe, expect, it } from 'vitest';
import { type CompileResult, compile, type PolicySet } from '../../agent/policy/compile.js';
import { enums, structs } from '../../agent/policy/layout.js';
import type { NameRule, Policy, Postures, Rule } from '../../agent/policy/model.js';
import type { FileOperation, Request } from '../oracle/request.js';
import { judgeByTables } from '../oracle/run-tables.js';

const AUDIT: Postures = { file: 'audit', network: 'audit', capabilities: 'audit' };
const BLOCK: Postures = { file: 'block', network: 'block', capabilities: 'block' };

function policy(name: string, rules: readonly Rule[], mode: Policy['mode'] = 'Enforce'): Policy {
  return {
    apiVersion: 'security.belay.dev/v1',
    kind: 'WorkloadPolicy',
    scope: 'namespace',
    namespace: 'shop',
    name,
    at: { file: 'p.yaml', line: 1, column: 1 },
    mode,
    selector: { labels: new Map(), expressions: [], namespaces: [], containers: [] },
    rules,
  };
}

function rule(id: string, part: Partial<NameRule> & Pick<NameRule, 'class' | 'match' | 'action'>): NameRule {
  return {
    id,
    at: { file: 'p.yaml', line: 7, column: 3 },
    severity: 5,
    tags: [],
    message: '',
    sources: [],
    ownerOnly: false,
    readOnly: false,
    noTty: false,
    ...part,
  };
}

const path = (path: string) => ({ kind: 'path', path }) as const;
const dir = (dir: string, recursive = true) => ({ kind: 'directory', dir, recursive }) as const;
const glob = (pattern: string) => ({ kind: 'pattern', pattern }) as const;

function file(operation: FileOperation, name: string | undefined, programs = ['/bin/sh']): Request {
  return {
    kind: 'file',
    operation,
    name,
    subject: { programs, parents: [] },
    facts: { isOwner: false, hasTty: false, args: [], isSelf: false },
  };
}

function setOf(result: CompileResult): PolicySet {
  if (!result.ok) throw new Error(result.diagnostics.map(({ message }) => message).join('; '));
  return result.set;
}

describe('compile', () => {
  it('denies what a Block rule names and nothing else', () => {
    const rules = [
      rule('a', { class: 'process', match: path('/bin/ls'), action: 'Block' }),
      rule('b', { class: 'file', match: dir('/etc/'), action: 'Kill' }),
      rule('c', { class: 'file', match: glob('/tmp/**/*.sh'), action: 'Block' }),
    ];
    const judge = judgeByTables(setOf(compile([policy('p', rules)], AUDIT)));
    expect(judge(file('exec', '/bin/ls')).denied).toEqual({ policy: 'p', rule: 'a', action: 'Block' });
    expect(judge(file('exec', '/bin/lsx')).denied).toBeUndefined();
    expect(judge(file('read', '/etc/a/b')).denied?.action).toBe('Kill');
    expect(judge(file('move', '/etc')).denied?.rule).toBe('b');
    expect(judge(file('write', '/tmp/a.sh')).denied?.rule).toBe('c');
    expect(judge(file('write', '/tmp/a/b/c.sh')).denied?.rule).toBe('c');
    expect(judge(file('write', '/tmp/a/b/c.s')).denied).toBeUndefined();
    expect(judge(file('exec', undefined)).denied?.rule).toBe('unnamed');
  });

  it('gives equal bytes whatever the order of the policies', () => {
    const a = policy('a', [rule('x', { class: 'file', match: dir('/a/'), action: 'Allow' })]);
    const b = policy('b', [rule('x', { class: 'file', match: glob('/a/*b'), action: 'Block' })]);
    const [one, other] = [
      [a, b],
      [b, a],
    ].map((each) => setOf(compile(each, BLOCK)).bytes);
    expect(Buffer.compare(one, other)).toBe(0);
  });

  it('names the pattern that explodes, fast', () => {
    const pattern = '/**/*a??????????????????';
    const begun = process.cpuUsage();
    const result = compile(
      [policy('p', [rule('x', { class: 'file', match: glob(pattern), action: 'Block' })])],
      AUDIT,
    );
    expect(process.cpuUsage(begun).user).toBeLessThan(2_000_000);
    expect(result.ok).toBe(false);
    if (result.ok) return;
    expect(result.diagnostics[0].message).toContain(pattern);
    expect(result.diagnostics[0].at.line).toBe(7);
  });

  it('names one of the patterns that explode together, fast', () => {
    const patterns = ['a', 'b', 'c', 'd', 'e'].map((letter) => `/**/*${letter}?????????`);
    const rules = patterns.map((each, i) =>
      rule(`r${i}`, { class: 'file', match: glob(each), action: 'Block' }),
    );
    const begun = process.cpuUsage();
    const result = compile([policy('p', rules)], AUDIT);
    expect(process.cpuUsage(begun).user).toBeLessThan(2_000_000);
    expect(result.ok).toBe(false);
    if (!result.ok) expect(patterns.some((each) => result.diagnostics[0].message.includes(each))).toBe(true);
  });

  it('leaves a chain out of what can never be the first to fire', () => {
    const policies = Array.from({ length: 100 }, (_, i) =>
      policy(`p${i}`, [rule('x', { class: 'file', match: dir('/home/'), action: 'Allow', ownerOnly: true })]),
    );
    const set = setOf(compile(policies, AUDIT));
    expect(judgeByTables(set)(file('read', '/home/x')).denied?.policy).toBe('p0');
    expect(set.stats.decisions).toBeLessThan(5);
  });

  it('has room for many names of programs and many directories, each below each', () => {
    const tools = Array.from({ length: 80 }, (_, i) =>
      rule(`t${i}`, { class: 'process', match: { kind: 'execname', name: `tool${i * i}` }, action: 'Block' }),
    );
    const dirs = Array.from({ length: 500 }, (_, i) =>
      rule(`d${i}`, { class: 'process', match: dir(`/srv/${i % 25}/app${i}/`), action: 'Allow' }),
    );
    const set = setOf(compile([policy('p', [...tools, ...dirs])], BLOCK));
    const judge = judgeByTables(set);
    expect(judge(file('exec', '/srv/3/app28/x/tool49')).denied?.rule).toBe('t7');
    expect(judge(file('exec', '/srv/3/app28/x/tool48')).denied).toBeUndefined();
    expect(judge(file('exec', '/srv/3/app29/x/tool48')).denied?.rule).toBe('DefaultPosture');
    expect(set.bytes.length).toBeLessThan(16 << 20);
  }, 60_000);

  it('reports the stricter of two rules whose conditions fail, an Allow rule last', () => {
    const rules = [
      rule('a', { class: 'file', match: path('/x'), action: 'Allow', readOnly: true }),
      rule('b', { class: 'file', match: path('/x'), action: 'Block' }),
    ];
    const judge = judgeByTables(setOf(compile([policy('p', rules)], AUDIT)));
    expect(judge(file('write', '/x')).denied?.rule).toBe('b');
  });

  it('denies by rules that need no arguments before those that do', () => {
    const rules = [
      rule('a', { class: 'process', match: path('/x'), action: 'Kill', allowedArgs: ['-v'] }),
      rule('b', { class: 'process', match: path('/x'), action: 'Block', ownerOnly: true }),
    ];
    const judge = judgeByTables(setOf(compile([policy('p', rules)], AUDIT)));
    const asked = file('exec', '/x');
    const facts = { ...asked.facts, args: ['-q'] };
    expect(judge({ ...asked, facts }).denied?.rule).toBe('b');
    expect(judge({ ...asked, facts: { ...facts, isOwner: true } }).denied?.rule).toBe('a');
  });

  it('refuses more lists of arguments on one program than the kernel looks at', () => {
    const rules = Array.from({ length: 20 }, (_, i) =>
      rule(`r${i}`, { class: 'process', match: path('/bin/a'), action: 'Allow', allowedArgs: [`-${i}`] }),
    );
    const result = compile([policy('p', rules)], AUDIT);
    expect(result.ok ? '' : result.diagnostics[0].message).toContain('more than 8');
  });

  it('asks of ways out only what rules are about', () => {
    const { match: _, ...base } = rule('r', { class: 'file', match: path('/a'), action: 'Block' });
    const rules: Rule[] = [
      { ...base, class: 'escape', operation: 'umount' },
      { ...base, class: 'escape', operation: 'bpf', action: 'Audit' },
    ];
    const { bytes } = setOf(compile([policy('p', rules)], AUDIT));
    const active = structs.set_header.active + enums.domain.DOMAIN_ESCAPE * 4;
    expect(new DataView(bytes.buffer).getUint32(active, true)).toBe((1 << 1) | (1 << 6));
  });

  it('marks for the cache what passes whoever asks and however often: no report, no condition', () => {
    const read = (id: string, name: string, part: Partial<NameRule>) =>
      rule(id, { class: 'file', match: path(name), action: 'Allow', ...part });
    const rules = [
      read('plain', '/plain', {}),
      read('owner', '/owner', { ownerOnly: true }),
      read('readonly', '/readonly', { readOnly: true }),
      read('audit', '/audit', { action: 'Audit' }),
      read('block', '/block', { action: 'Block' }),
    ];
    const { bytes } = setOf(compile([policy('p', rules)], BLOCK));
    const view = new DataView(bytes.buffer);
    const u32 = (at: number) => view.getUint32(at, true);
    const { set_header: header, decision, rule: ruleAt, entry } = structs;
    const seen = { passes: 0, not: 0 };
    for (let i = 0; i < u32(header.ndecisions); i++) {
      const at = u32(header.decisions) + i * decision.size;
      for (let question = 0; question < enums.decide.DECIDE_COUNT; question++) {
        const verdict = u32(at + question * entry.size + entry.verdict);
        const audit = u32(at + question * entry.size + entry.audit);
        const plain =
          verdict === 0 ||
          (bytes[verdict + ruleAt.action_u8] === enums.action.ACTION_ALLOW &&
            bytes[verdict + ruleAt.conditions_u8] === 0 &&
            u32(verdict + ruleAt.next) === 0);
        const passes = (u32(at + decision.passes) & (1 << question)) !== 0;
        expect(passes).toBe(plain && audit === 0);
        seen[passes ? 'passes' : 'not']++;
      }
      expect(u32(at + decision.passes) >>> enums.decide.DECIDE_COUNT).toBe(0);
    }
    // of the rules above: the plain one's reading and writing, readOnly's reading; and three that never pass so
    expect(seen.passes).toBeGreaterThanOrEqual(3);
    expect(seen.not).toBeGreaterThanOrEqual(4);
    expect(u32(u32(header.decisions) + decision.passes)).toBe((1 << enums.decide.DECIDE_COUNT) - 1);
  });

  it('of no policies asks nothing', () => {
    const set = setOf(compile([], BLOCK));
    const view = new DataView(set.bytes.buffer);
    for (let domain = 0; domain < enums.domain.DOMAIN_COUNT; domain++) {
      expect(view.getUint32(structs.set_header.active + domain * 4, true)).toBe(0);
    }
    expect(judgeByTables(set)(file('write', '/etc/passwd')).denied).toBeUndefined();
  });
});
