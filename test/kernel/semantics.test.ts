import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Belay,
  brief,
  cgroup,
  containerName,
  eventually,
  inCgroup,
  inContainer,
  makeCgroup,
  policy,
  removeCgroup,
  type Shell,
  T,
  workload,
} from './harness.js';

const container = containerName();
const bare = cgroup('semantics');
const WORKLOADS = [workload('container', container.cgroup), workload('cgroup', bare)];

let belay: Belay;
let shell: Shell;
let folders = 0;

interface Case {
  readonly name: string;
  /** `$D` is a folder of the case's own, `$A` what it acts with; also below. */
  readonly spec: string;
  readonly make?: string;
  /** Scripts, and what they print. */
  readonly acts: readonly (readonly [script: string, prints: string])[];
  /** What is told, in this order, and nothing else about `$D`. */
  readonly alerts?: readonly Partial<ReturnType<typeof brief>>[];
  readonly extra?: string;
}

/** An allow-list of files has to allow what the shell itself opens. */
const NULL = '- {path: /dev/null, action: Allow}';
/** And one of programs the shell and what it acts with. */
const PROGRAMS = `matchDirectories:
  - {dir: /belay/, action: Allow}
  - {dir: /usr/, recursive: true, action: Allow}`;

async function hold(c: Case): Promise<void> {
  const D = `${T}/${++folders}`;
  const fill = (text: string) => text.replaceAll('$D', D).replaceAll('$A', shell.act);
  // what was in force must not be in the way
  await belay.enforce(policy('none', 'file: {matchPaths: [{path: /none}]}'));
  expect(await shell.run(fill(`mkdir -p $D; cd $D; ${c.make ?? ':'}`))).toBe('');
  await belay.enforce(policy('p', fill(c.spec), c.extra));
  const from = belay.records().length;
  for (const [script, prints] of c.acts) {
    expect(`${script}: ${await shell.run(fill(script))}`).toBe(`${script}: ${fill(prints)}`);
  }
  if (!c.alerts) return;
  const about = (a: Parameters<typeof brief>[0]) => JSON.stringify([a.object, a.process]).includes(`${D}/`);
  for (const wanted of c.alerts) {
    const filled = JSON.parse(fill(JSON.stringify(wanted)));
    await belay.alert(
      (a) => about(a) && Object.entries(filled).every(([k, v]) => Object(brief(a))[k] === v),
      from,
    );
  }
  expect(belay.alerts(about, from).map(brief)).toMatchObject(
    c.alerts.map((a) => JSON.parse(fill(JSON.stringify(a)))),
  );
}

const named = (cases: readonly Case[]) => cases.map((c) => [c.name, c] as const);

async function start(flags: readonly string[]): Promise<void> {
  belay = await Belay.start({ workloads: WORKLOADS, flags });
}

beforeAll(async () => {
  await start(['--file-posture', 'block', '--network-posture', 'block', '--capabilities-posture', 'block']);
  shell = await inContainer(container.name);
});

afterAll(async () => {
  await shell.close();
  await removeCgroup(bare);
  expect(await belay.stop()).toBe(0);
});

const SOURCES: readonly Case[] = [
  {
    name: 'a file rule with a source is about the program that acts',
    spec: 'file: {matchPaths: [{path: $D/secret, fromSource: [{path: $D/reader}]}]}',
    make: 'cp $A reader; echo > secret',
    acts: [
      ['$D/reader read $D/secret', 'EACCES'],
      ['$A read $D/secret', 'ok'],
    ],
    alerts: [{ program: '$D/reader', object: '$D/secret', verdict: 'Denied' }],
  },
  {
    name: 'a process rule with a source is about the program that execs',
    spec: 'process: {matchPaths: [{path: $D/program, fromSource: [{path: $D/launcher}]}]}',
    make: 'cp $A launcher; cp $A program',
    acts: [
      ['$D/launcher -exec $D/program tcp', '-exec: EACCES'],
      ['$A -exec $D/program tcp', 'ok'],
    ],
    alerts: [{ program: '$D/launcher', object: '$D/program', operation: 'exec', verdict: 'Denied' }],
  },
  {
    name: 'a process rule with a source is about the program of the parent process, and goes no higher',
    spec: 'process: {matchPaths: [{path: $D/program, fromSource: [{path: $D/launcher}]}]}',
    make: 'cp $A launcher; cp $A program',
    acts: [
      ['$D/launcher exec $A -exec $D/program tcp', 'exit 1'],
      ['$D/launcher exec $A exec $A -exec $D/program tcp', 'ok'],
      ['$A exec $A -exec $D/program tcp', 'ok'],
    ],
    alerts: [{ program: '$A', object: '$D/program', operation: 'exec', verdict: 'Denied' }],
  },
  {
    name: 'a source that is a script is the script',
    spec: 'file: {matchPaths: [{path: $D/secret, fromSource: [{path: $D/reader.sh}]}]}',
    make: `echo text > secret
printf '#!/bin/sh\\nread x < $D/secret && echo $x\\n' > reader.sh; cp reader.sh other.sh; chmod +x *.sh`,
    acts: [
      ['$D/reader.sh', '$D/reader.sh: 2: cannot open $D/secret: Permission denied'],
      ['$D/other.sh', 'text'],
    ],
    alerts: [{ program: '/usr/bin/dash', object: '$D/secret', verdict: 'Denied' }],
  },
  {
    name: 'a source that is an interpreter is every script of it',
    spec: 'file: {matchPaths: [{path: $D/secret, fromSource: [{path: /usr/bin/dash}]}]}',
    make: `echo text > secret; printf '#!/bin/sh\\nread x < $D/secret && echo $x\\n' > reader.sh; chmod +x *.sh`,
    acts: [
      ['$D/reader.sh', '$D/reader.sh: 2: cannot open $D/secret: Permission denied'],
      ['$A read $D/secret', 'ok'],
    ],
  },
  {
    name: 'sources may be directories and patterns',
    spec: `file:
  matchPaths:
  - {path: $D/one, fromSource: [{dir: $D/sub/, recursive: true}]}
  - {path: $D/two, fromSource: [{pattern: "$D/**/read*"}]}`,
    make: 'mkdir -p sub/deep; cp $A sub/deep/reader; cp $A other; echo > one; echo > two',
    acts: [
      ['$D/sub/deep/reader read $D/one', 'EACCES'],
      ['$D/sub/deep/reader read $D/two', 'EACCES'],
      ['$D/other read $D/one', 'ok'],
      ['$D/other read $D/two', 'ok'],
    ],
  },
  {
    name: 'an Allow rule with a source allows that program alone',
    spec: `file:
  action: Allow
  matchPaths:
  ${NULL}
  - {path: $D/secret, fromSource: [{path: $D/reader}]}`,
    make: 'cp $A reader; echo > secret',
    acts: [
      ['$D/reader read $D/secret', 'ok'],
      ['$A read $D/secret', 'EACCES'],
    ],
    alerts: [{ program: '$A', object: '$D/secret', rule: 'DefaultPosture', verdict: 'Denied' }],
  },
];

const FORMS = {
  path: ['matchPaths', 'path: $D/home/key'],
  directory: ['matchDirectories', 'dir: $D/home/'],
  'recursive directory': ['matchDirectories', 'dir: $D/, recursive: true'],
  pattern: ['matchPatterns', 'pattern: $D/home/k*'],
} as const;

/** Owner and root, reading and writing, for every form of file rule with ownerOnly. */
const OWNERS: readonly Case[] = (['Allow', 'Block'] as const).flatMap((action) =>
  Object.entries(FORMS).flatMap(([form, [list, match]]) =>
    [false, true].flatMap((readOnly) =>
      [false, true].map((source): Case => {
        const rule = `{${match}, ownerOnly: true${readOnly ? ', readOnly: true' : ''}${source ? ', fromSource: [{path: $D/bin/reader}]' : ''}}`;
        const reader = source ? '$D/bin/reader' : '$A';
        const others = action === 'Allow' ? 'EACCES' : 'ok';
        return {
          name: `${action} ${form}, ownerOnly${readOnly ? ', readOnly' : ''}${source ? ', from a source' : ''}: the owner ${readOnly ? 'reads' : 'reads and writes'}, root does neither`,
          spec: `file:
  action: ${action}
  ${action === 'Allow' ? `matchPaths:\n  ${NULL}` : list === 'matchPaths' ? 'matchPaths:' : ''}
  ${list === 'matchPaths' ? '' : `${list}:\n  `}- ${rule}`,
          make: `mkdir bin home; cp $A bin/reader; echo > home/key; busybox chown 1000 home/key`,
          acts: [
            [`${reader} -u 1000 read $D/home/key`, 'ok'],
            [`${reader} -u 1000 write $D/home/key`, readOnly ? 'EACCES' : 'ok'],
            [`${reader} read $D/home/key`, 'EACCES'],
            [`${reader} write $D/home/key`, 'EACCES'],
            ...(source ? ([['$A read $D/home/key', others]] as const) : []),
            ['$A read /etc/hosts', others],
          ],
        };
      }),
    ),
  ),
);

const FILES: readonly Case[] = [
  {
    name: 'Block readOnly: reading passes, writing and changing do not',
    spec: 'file: {matchPaths: [{path: $D/file, readOnly: true}]}',
    make: 'echo > file',
    acts: [
      ['$A read $D/file', 'ok'],
      ['$A write $D/file', 'EACCES'],
      ['$A append $D/file', 'EACCES'],
      ['$A chmod $D/file', 'EACCES'],
      ['$A truncate $D/file', 'EACCES'],
      ['$A unlink $D/file', 'EACCES'],
    ],
    alerts: ['open', 'open', 'chmod', 'truncate', 'unlink']
      .filter((op, i, all) => all.indexOf(op) === i)
      .map((operation) => ({ operation, object: '$D/file', verdict: 'Denied' as const })),
  },
  {
    name: 'Block readOnly of a directory from a source: that program may not write there, others may',
    spec: 'file: {matchDirectories: [{dir: $D/, recursive: true, readOnly: true, fromSource: [{path: $D/writer}]}]}',
    make: 'cp $A writer; echo > file',
    acts: [
      ['$D/writer read $D/file', 'ok'],
      ['$D/writer write $D/file', 'EACCES'],
      ['$D/writer create $D/new', 'EACCES'],
      ['$A write $D/file', 'ok'],
    ],
  },
  {
    name: 'Allow readOnly from a source: that program reads, and nothing else passes',
    spec: `file:
  action: Allow
  matchPaths:
  ${NULL}
  - {path: $D/file, readOnly: true, fromSource: [{path: $D/reader}]}`,
    make: 'cp $A reader; echo > file; echo > other',
    acts: [
      ['$D/reader read $D/file', 'ok'],
      ['$D/reader append $D/file', 'EACCES'],
      ['$D/reader read $D/other', 'EACCES'],
      ['$A read $D/file', 'EACCES'],
    ],
  },
  {
    name: 'a directory is its direct children, a recursive one everything below',
    spec: `file:
  matchDirectories:
  - {dir: $D/flat/}
  - {dir: $D/deep/, recursive: true}`,
    make: 'mkdir -p flat/sub deep/sub/sub; for f in flat flat/sub deep deep/sub deep/sub/sub; do echo > $f/file; done',
    acts: [
      ['$A read $D/flat/file', 'EACCES'],
      ['$A read $D/flat/sub/file', 'ok'],
      ['$A read $D/deep/file', 'EACCES'],
      ['$A read $D/deep/sub/sub/file', 'EACCES'],
      ['$A read $D/flatfile', 'ENOENT'],
    ],
  },
  {
    name: 'the most specific rule counts: path over pattern over directory',
    spec: `file:
  matchPaths:
  - {path: $D/dir/open, action: Allow}
  ${NULL}
  matchDirectories:
  - {dir: $D/dir/, recursive: true, action: Block}
  - {dir: /, recursive: true, action: Allow}
  matchPatterns:
  - {pattern: $D/dir/*.txt, action: Allow}
  - {pattern: $D/dir/no*.txt, action: Block}`,
    make: 'mkdir dir; for f in open shut yes.txt no.txt; do echo > dir/$f; done; echo > free',
    acts: [
      ['$A read $D/dir/open', 'ok'],
      ['$A read $D/dir/shut', 'EACCES'],
      ['$A read $D/dir/yes.txt', 'ok'],
      ['$A read $D/dir/no.txt', 'EACCES'],
      ['$A read $D/free', 'ok'],
    ],
  },
  {
    name: 'pts: false denies on a terminal only',
    spec: 'file: {matchPaths: [{path: $D/file, pts: false}]}',
    make: 'echo > file',
    acts: [
      ['$A -pty read $D/file', 'EACCES'],
      ['$A read $D/file', 'ok'],
    ],
    alerts: [{ object: '$D/file', verdict: 'Denied' }],
  },
  {
    name: 'pts: false denies a program on a terminal only',
    spec: 'process: {matchPaths: [{path: $D/program, pts: false}]}',
    make: 'cp $A program',
    acts: [
      ['$A -pty -exec $D/program tcp', '-exec: EACCES'],
      ['$A -exec $D/program tcp', 'ok'],
    ],
    alerts: [{ object: '$D/program', operation: 'exec', verdict: 'Denied' }],
  },
];

const PATTERNS: readonly [pattern: string, matched: readonly string[], free: readonly string[]][] = [
  ['*.key', ['a.key', '.key', 'a.b.key'], ['akey', 'sub/a.key', 'a.keys']],
  ['**/deep', ['p/deep', 'p/q/deep'], ['deeper', 'p/deep2']],
  ['?x', ['ax', 'éx'], ['x', 'abx']],
  ['[a-c]z', ['az', 'cz'], ['dz', 'abz']],
  ['{one,two}.txt', ['one.txt', 'two.txt'], ['three.txt', 'onetwo.txt']],
  ['*hado?', ['shadow', 'gshadow'], ['hado', 'shadows']],
];

const GLOBS: readonly Case[] = PATTERNS.map(([pattern, matched, free]) => ({
  name: `the pattern ${pattern}`,
  spec: `file: {matchPatterns: [{pattern: "$D/${pattern}"}]}`,
  make: `mkdir -p sub p/q; for f in ${[...matched, ...free].map((f) => `'${f}'`).join(' ')}; do echo > "$f"; done`,
  acts: [
    ...matched.map((f) => [`$A read '$D/${f}'`, 'EACCES'] as const),
    ...free.map((f) => [`$A read '$D/${f}'`, 'ok'] as const),
  ],
}));

const PROCESSES: readonly Case[] = [
  {
    name: 'an execname is that name in any directory, and no other name',
    spec: 'process: {matchPaths: [{execname: frob}]}',
    make: 'mkdir sub; for f in frob sub/frob frobs; do cp $A $f; done',
    acts: [
      ['$A exec $D/frob tcp', 'EACCES'],
      ['$A exec $D/sub/frob tcp', 'EACCES'],
      ['$A exec $D/frobs tcp', 'ok'],
    ],
    alerts: [
      { object: '$D/frob', rule: 'process.matchPaths[0]' },
      { object: '$D/sub/frob', rule: 'process.matchPaths[0]' },
    ],
  },
  {
    name: 'Block ownerOnly: the owner runs the program, root does not',
    spec: 'process: {matchPaths: [{path: $D/hello, ownerOnly: true}]}',
    make: 'cp $A hello; chmod 755 hello; busybox chown 1000 hello',
    acts: [
      ['$A -u 1000 exec $D/hello tcp', 'ok'],
      ['$A exec $D/hello tcp', 'EACCES'],
    ],
  },
  {
    name: 'Allow ownerOnly: the owner runs the program, root does not, and nothing else runs',
    spec: `process:
  ${PROGRAMS}
  matchPaths: [{path: $D/hello, ownerOnly: true, action: Allow}]`,
    make: 'for f in hello other; do cp $A $f; chmod 755 $f; busybox chown 1000 $f; done',
    acts: [
      ['$A -u 1000 exec $D/hello tcp', 'ok'],
      ['$A exec $D/hello tcp', 'EACCES'],
      ['$A exec $D/other tcp', 'EACCES'],
    ],
  },
  {
    name: 'allowedArgs: only listed arguments; a breach is killed before it does anything',
    spec: 'process: {matchPaths: [{path: $D/program, allowedArgs: [mkdir, $D/listed, tcp]}]}',
    make: 'cp $A program',
    acts: [
      ['$A exec $D/program tcp', 'ok'],
      ['$A exec $D/program mkdir $D/listed', 'ok'],
      ['$A exec $D/program mkdir $D/other', 'killed'],
      ['[ -d $D/listed ] && [ ! -d $D/other ] && echo so', 'so'],
      ['$A exec $D/program', 'exit 2'],
    ],
    alerts: [{ object: '$D/program', operation: 'exec', verdict: 'Killed' }],
  },
  {
    name: 'a process directory and pattern',
    spec: `process:
  matchDirectories: [{dir: $D/flat/}, {dir: $D/deep/, recursive: true}]
  matchPatterns: [{pattern: "$D/*.bin"}]`,
    make: 'mkdir -p flat/sub deep/sub; for f in flat/p flat/sub/p deep/sub/p a.bin b.out; do cp $A $f; done',
    acts: [
      ['$A exec $D/flat/p tcp', 'EACCES'],
      ['$A exec $D/flat/sub/p tcp', 'ok'],
      ['$A exec $D/deep/sub/p tcp', 'EACCES'],
      ['$A exec $D/a.bin tcp', 'EACCES'],
      ['$A exec $D/b.out tcp', 'ok'],
    ],
  },
];

const ACTIONS: readonly Case[] = [
  {
    name: 'Audit: it passes and is told, with what the rule says of itself',
    spec: `severity: 3
tags: [T1005]
message: read it
file: {matchPaths: [{path: $D/file, action: Audit, severity: 9}]}`,
    make: 'echo > file',
    acts: [['$A read $D/file', 'ok']],
    alerts: [{ object: '$D/file', rule: 'file.matchPaths[0]', action: 'Audit', verdict: 'Passed' }],
  },
  {
    name: 'Audit does not weaken a Block',
    spec: `file:
  matchPaths: [{path: $D/file, action: Audit}]
  matchDirectories: [{dir: $D/}]`,
    make: 'echo > file',
    acts: [['$A read $D/file', 'EACCES']],
    alerts: [{ object: '$D/file', rule: 'file.matchDirectories[0]', action: 'Block', verdict: 'Denied' }],
  },
  {
    name: 'mode Audit: what would be denied passes and is told',
    extra: '  mode: Audit\n',
    spec: `file: {matchPaths: [{path: $D/file}]}
process: {matchPaths: [{path: $D/program}]}`,
    make: 'echo > file; cp $A program',
    acts: [
      ['$A read $D/file', 'ok'],
      ['$A exec $D/program tcp', 'ok'],
    ],
    alerts: [
      { object: '$D/file', action: 'Block', verdict: 'Passed' },
      { object: '$D/program', operation: 'exec', action: 'Block', verdict: 'Passed' },
    ],
  },
  {
    name: 'Kill: it is denied and the process ends',
    spec: 'file: {matchPaths: [{path: $D/file, action: Kill}]}',
    make: 'echo > file',
    acts: [
      ['$A exec $A read $D/file', 'killed'],
      ['$A exec $A read $D/other', 'ok'],
    ],
    alerts: [{ object: '$D/file', action: 'Kill', verdict: 'Killed' }],
  },
];

const POSTURES: readonly Case[] = [
  {
    name: 'a file that no Allow rule names is denied',
    spec: `file:
  action: Allow
  matchPaths:
  ${NULL}
  - {path: $D/file}`,
    make: 'echo > file; echo > other',
    acts: [
      ['$A read $D/file', 'ok'],
      ['$A read $D/other', 'EACCES'],
      ['$A create $D/new', 'EACCES'],
    ],
    alerts: [
      { object: '$D/other', policy: '', rule: 'DefaultPosture', verdict: 'Denied' },
      { object: '$D/new', operation: 'create', policy: '', rule: 'DefaultPosture', verdict: 'Denied' },
    ],
  },
  {
    name: 'a program that no Allow rule names is denied',
    spec: `process:
  ${PROGRAMS}`,
    make: 'cp $A program',
    acts: [
      ['$A exec $D/program tcp', 'EACCES'],
      ['$A exec $A tcp', 'ok'],
    ],
    alerts: [{ object: '$D/program', policy: '', rule: 'DefaultPosture', verdict: 'Denied' }],
  },
  {
    name: 'a socket that no Allow rule names is denied',
    spec: 'network: {action: Allow, matchProtocols: [{protocol: tcp}]}',
    acts: [
      ['$A tcp', 'ok'],
      ['$A udp', 'EACCES'],
    ],
  },
  {
    name: 'an address that no Allow rule names is denied',
    spec: 'network: {egress: [{action: Allow, to: [{cidr: 127.0.0.0/8, except: [127.9.0.0/16]}], ports: [{port: 80, endPort: 90}]}]}',
    acts: [
      ['$A connect 127.1.1.1 85', 'ok'],
      ['$A connect 127.1.1.1 91', 'EACCES'],
      ['$A connect 127.9.1.1 85', 'EACCES'],
      ['$A connect ::1 85', 'EACCES'],
    ],
  },
  {
    name: 'a capability that no Allow rule names is denied',
    spec: 'capabilities: {action: Allow, matchCapabilities: [{capability: net_raw}]}',
    acts: [
      ['$A icmp', 'ok'],
      ['$A chroot /', 'EPERM'],
    ],
  },
];

const AUDITED: readonly Case[] = POSTURES.map((c) => ({
  ...c,
  name: c.name.replace('is denied', 'passes and is told'),
  acts: c.acts.map(([script]) => [script, 'ok'] as const),
  // a file that may be created is then opened
  alerts: c.alerts
    ?.flatMap((a) => (a.operation === 'create' ? [a, { ...a, operation: 'open' }] : [a]))
    .map((a) => ({ ...a, verdict: 'Passed' as const })),
}));

const PRESETS: readonly Case[] = [
  {
    name: 'protectEnv: only a process itself reads its environment',
    spec: 'presets: [{name: protectEnv, action: Block}]',
    acts: [
      ['$A read /proc/self/environ', 'ok'],
      ['$A read /proc/1/environ', 'EACCES'],
      ['$A read /proc/1/status', 'ok'],
    ],
  },
  {
    name: 'protectProc: only a process itself reads what /proc says of it',
    spec: 'presets: [{name: protectProc, action: Block}]',
    acts: [
      ['$A read /proc/self/status', 'ok'],
      ['$A read /proc/1/status', 'EACCES'],
      ['$A read /proc/1/environ', 'EACCES'],
      ['$A read /proc/uptime', 'ok'],
    ],
  },
  {
    name: 'filelessExec, Audit: it runs and is told',
    spec: 'presets: [{name: filelessExec, action: Audit}]',
    make: 'cp $A program',
    acts: [['$A memfd $D/program tcp', 'ok']],
    alerts: [{ object: 'memfd:act', rule: 'presets[0]', action: 'Audit', verdict: 'Passed' }],
  },
  {
    name: 'anonymousMapExec: no anonymous memory becomes executable',
    spec: 'presets: [{name: anonymousMapExec, action: Block}]',
    acts: [
      ['$A anonymous', 'EACCES'],
      ['$A anonymous-later', 'EACCES'],
      ['$A map $A', 'ok'],
      ['$A mprotect $A', 'ok'],
    ],
  },
  {
    name: 'anonymousMapExec: nor does memory that looks like a file’s',
    spec: 'presets: [{name: anonymousMapExec, action: Block}]',
    acts: [
      ['$A disguised memfd -', 'EACCES'],
      ['$A disguised both $A', 'EACCES'],
      ['$A disguised before $A', 'EACCES'],
      ['$A disguised after $A', 'EACCES'],
    ],
  },
  {
    name: 'anonymousMapExec: nor do the writable parts of a program that is started',
    spec: 'presets: [{name: anonymousMapExec, action: Block}]',
    acts: [
      ['$A tcp', 'ok'],
      [`A=$A; \${A%act}writable > /dev/null 2>&1; echo $?`, '139'],
    ],
  },
  {
    name: 'anonymousMapExec, Audit: it happens and is told',
    spec: 'presets: [{name: anonymousMapExec, action: Audit}]',
    acts: ['memfd', 'both', 'before', 'after'].map((way) => [`$A disguised ${way} $A`, 'ok'] as const),
  },
];

describe.each([
  ['sources', SOURCES],
  ['owners', OWNERS],
  ['files', FILES],
  ['patterns', GLOBS],
  ['programs', PROCESSES],
  ['actions', ACTIONS],
  ['presets', PRESETS],
  ['posture block', POSTURES],
])('%s', (_, cases) => {
  it.each(named(cases))('%s', (_, c) => hold(c));
});

describe('presets', () => {
  it('exec: nobody joins a container that runs, nor a bare cgroup', async () => {
    makeCgroup(bare);
    await belay.enforce(policy('none', 'file: {matchPaths: [{path: /none}]}'));
    const first = inCgroup(bare);
    expect(await first.do('tcp')).toBe('ok');
    const join = (id: string) =>
      execFileSync('ctr', ['task', 'exec', '--exec-id', id, container.name, '/bin/true'], {
        encoding: 'utf8',
        stdio: 'pipe',
      });
    expect(join('a')).toBe('');
    await belay.enforce(policy('p', 'presets: [{name: exec, action: Block}]'));
    expect(() => join('b')).toThrow(/permission denied/);
    expect(await first.do('tcp')).toBe('ok');
    expect(await shell.do('tcp')).toBe('ok');
    const second = inCgroup(bare);
    expect(await second.run('echo joined')).toMatch(/Permission denied/);
    await first.close();
  });
});

describe('posture audit', () => {
  beforeAll(async () => {
    expect(await belay.stop()).toBe(0);
    await start([]);
  });

  it.each(named(AUDITED))('%s', (_, c) => hold(c));

  it('KillContainer: the whole container ends', async () => {
    const file = `${T}/fatal`;
    expect(await shell.run(`echo > ${file}`)).toBe('');
    await belay.enforce(policy('p', `file: {matchPaths: [{path: ${file}, action: KillContainer}]}`));
    expect(await shell.do('read', file)).toMatch(/Killed|the shell ended/);
    await eventually('the container ends', () => shell.ended || undefined);
    const alert = await belay.alert((a) => a.object.path === file);
    expect(brief(alert)).toMatchObject({
      action: 'KillContainer',
      verdict: 'ContainerKilled',
      pod: 'container',
    });
    await belay.logged('container killed');
  });
});
