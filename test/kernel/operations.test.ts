import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AlertRecord, ObjectRecord } from '../../agent/event/record.js';
import {
  Belay,
  brief,
  cgroup,
  containerName,
  inCgroup,
  inContainer,
  makeCgroup,
  policy,
  quote,
  removeCgroup,
  Shell,
  T,
  workload,
} from './harness.js';

const ACTOR = `${T}/act`;
const SHELL = '/usr/bin/dash';
const LINKER = '/lib64/ld-linux-x86-64.so.2';

/** One operation: on what a rule names, where it is denied, and on its neighbour, which nothing names. */
interface Row {
  readonly name: string;
  /** What the rule says, of what is to be denied. */
  readonly rule: string;
  /** Makes what is acted on; `at` is the object. */
  readonly make?: (at: string) => string;
  readonly act: (at: string) => readonly string[];
  readonly operation: string;
  readonly object: (at: string) => ObjectRecord;
  /** If not EACCES. */
  readonly denied?: string;
  /** If not an object of its own, but this. */
  readonly on?: { readonly denied: string; readonly free: string };
  readonly class: string;
}

const file = (at: string) => `echo text > ${at}`;
const program = (at: string) => `cp ${ACTOR} ${at}`;
const script = (at: string) => `printf '#!/bin/sh\\n' > ${at}; chmod +x ${at}`;
const dynamic = (at: string) => `cp /usr/bin/true ${at}`;
const library = (at: string) => `cp "$(ls /usr/lib/*/libc.so.6 /lib/*/libc.so.6 | head -n 1)" ${at}`;

const change = (
  name: string,
  operation: string,
  act: Row['act'],
  make?: Row['make'],
  access: 'read' | 'write' = 'write',
): Row => ({
  name,
  rule: 'file.matchPaths',
  class: 'File',
  make,
  act,
  operation,
  object: (path) => ({ path, access }),
});

const run = (
  name: string,
  operation: string,
  act: Row['act'],
  make: Row['make'],
  more: Partial<Row> = {},
): Row => ({
  name,
  rule: 'process.matchPaths',
  class: 'Process',
  make,
  act,
  operation,
  object: (path) => ({ path }),
  ...more,
});

const FILES: readonly Row[] = [
  change('open for read', 'open', (p) => ['read', p], file, 'read'),
  change('open for write', 'open', (p) => ['write', p], file),
  change('open for append', 'open', (p) => ['append', p], file),
  change('create', 'create', (p) => ['create', p]),
  change('unlink', 'unlink', (p) => ['unlink', p], file),
  change('rename from', 'rename', (p) => ['rename', p, `${p}.moved`], file),
  change(
    'rename to',
    'rename',
    (p) => ['rename', `${p}.from`, p],
    (p) => file(`${p}.from`),
  ),
  change(
    'rename over',
    'rename',
    (p) => ['rename', `${p}.from`, p],
    (p) => `${file(p)}; ${file(`${p}.from`)}`,
  ),
  change(
    'exchange',
    'rename',
    (p) => ['exchange', p, `${p}.other`],
    (p) => `${file(p)}; ${file(`${p}.other`)}`,
  ),
  change(
    'be exchanged',
    'rename',
    (p) => ['exchange', `${p}.other`, p],
    (p) => `${file(p)}; ${file(`${p}.other`)}`,
  ),
  change('link from', 'link', (p) => ['link', p, `${p}.link`], file),
  change(
    'link to',
    'link',
    (p) => ['link', `${p}.from`, p],
    (p) => file(`${p}.from`),
  ),
  change('symlink', 'symlink', (p) => ['symlink', '/etc/passwd', p]),
  change('mkdir', 'mkdir', (p) => ['mkdir', p]),
  change(
    'rmdir',
    'rmdir',
    (p) => ['rmdir', p],
    (p) => `mkdir ${p}`,
  ),
  change('mknod', 'create', (p) => ['mknod', p]),
  change('chmod', 'chmod', (p) => ['chmod', p], file),
  change('chown', 'chown', (p) => ['chown', p], file),
  change('truncate', 'truncate', (p) => ['truncate', p], file),
  change('utimes', 'setattr', (p) => ['utimes', p], file),
  change('setxattr', 'setxattr', (p) => ['setxattr', p], file),
  change(
    'connect to a unix socket',
    'connect',
    (p) => ['unix', p],
    (p) => `sleep 1000 | ${ACTOR} unix-serve ${p} > /dev/null & until [ -S ${p} ]; do sleep 0.1; done`,
  ),
  change(
    'send to a unix socket',
    'connect',
    (p) => ['unix-send', p],
    (p) => `sleep 1000 | ${ACTOR} unix-serve-dgram ${p} > /dev/null & until [ -S ${p} ]; do sleep 0.1; done`,
  ),
];

/** A program that is denied gets no other name either, which is a change to a file. */
const SECOND_NAME: Partial<Row> = { class: 'File', object: (path) => ({ path, access: 'write' }) };

const PROGRAMS: readonly Row[] = [
  run('exec', 'exec', (p) => ['exec', p, 'tcp'], program),
  run('exec of a descriptor', 'exec', (p) => ['fexec', p, 'tcp'], program),
  run('exec of a script', 'exec', (p) => ['exec', p], script),
  run(
    'exec of a script with that interpreter',
    'exec',
    (p) => ['exec', `${p}.sh`],
    (p) => `cp /usr/bin/dash ${p}; printf '#!${p}\\n' > ${p}.sh; chmod +x ${p}.sh`,
  ),
  run('exec by way of the dynamic linker', 'map', (p) => ['exec', LINKER, p], dynamic, {
    denied: 'exit 127',
  }),
  run('map executable', 'map', (p) => ['map', p], library),
  run('make a mapping executable', 'map', (p) => ['mprotect', p], library),
  run('link a program elsewhere', 'link', (p) => ['link', p, `${p}.link`], program, SECOND_NAME),
  run('rename a program', 'rename', (p) => ['rename', p, `${p}.moved`], program, SECOND_NAME),
];

const address = (
  name: string,
  operation: string,
  protocol: string,
  act: Row['act'],
  on: { denied: string; free: string },
  more: Partial<Row> = {},
): Row => ({
  name,
  rule: 'network.egress',
  class: 'Network',
  act,
  operation,
  object: (at) => ({ socket: protocol, protocol, address: at, port: 7000 }),
  on,
  ...more,
});
const v4 = (n: number) => ({ denied: `127.66.0.${n}`, free: `127.67.0.${n}` });
const v6 = (n: number) => ({ denied: `fd66::${n}`, free: `fd67::${n}` });

const ADDRESSES: readonly Row[] = [
  address('connect', 'connect', 'tcp', (a) => ['connect', a, '7000'], v4(1)),
  address('connect a datagram socket', 'connect', 'udp', (a) => ['connect-udp', a, '7000'], v4(2)),
  address('sendto', 'send', 'udp', (a) => ['sendto', a, '7000'], v4(3)),
  address('TCP fast open', 'send', 'tcp', (a) => ['fastopen', a, '7000'], v4(4)),
  address(
    'connect to an IPv4-mapped address',
    'connect',
    'tcp',
    (a) => ['connect', `::ffff:${a}`, '7000'],
    v4(5),
  ),
  address('sendto an IPv4-mapped address', 'send', 'udp', (a) => ['sendto', `::ffff:${a}`, '7000'], v4(6)),
  address('connect over IPv6', 'connect', 'tcp', (a) => ['connect', a, '7000'], v6(1)),
  address('sendto over IPv6', 'send', 'udp', (a) => ['sendto', a, '7000'], v6(2)),
];

/** Local ports: the object is what a rule's ports name. */
const PORTS: readonly Row[] = [
  ['bind', 'bind', 'tcp', (port: string) => ['bind', '127.0.0.1', port], '6601', '6701'],
  [
    'bind a datagram socket',
    'bind',
    'udp',
    (port: string) => ['bind-udp', '127.0.0.1', port],
    '6602',
    '6702',
  ],
  ['bind and listen', 'bind', 'tcp', (port: string) => ['listen', '127.0.0.1', port], '6603', '6703'],
].map(([name, operation, protocol, act, denied, free]) => ({
  name: name as string,
  rule: 'network.ingress',
  class: 'Network',
  act: act as Row['act'],
  operation: operation as string,
  object: (port) => ({ socket: protocol as string, protocol: protocol as string, port: Number(port) }),
  on: { denied: denied as string, free: free as string },
}));

const ALL: readonly Row[] = [...FILES, ...PROGRAMS, ...ADDRESSES, ...PORTS];
const NAMED = ALL.map((row) => [row.name, row] as const);
/** Files and programs have directories of their own, so that their numbers are those of their rules. */
const folderOf = (row: Row, kind: 'd' | 'n') => `${T}/${kind}${FILES.includes(row) ? 'f' : 'p'}`;
const indexOf = (row: Row) => [FILES, PROGRAMS].find((list) => list.includes(row))?.indexOf(row) ?? 0;
const objectOf = (row: Row, kind: 'd' | 'n') => `${folderOf(row, kind)}/${indexOf(row)}`;

const POLICY = policy(
  'operations',
  `severity: 7
file:
  matchPaths:
${FILES.map((row) => `  - {path: ${objectOf(row, 'd')}}`).join('\n')}
process:
  matchPaths:
${PROGRAMS.map((row) => `  - {path: ${objectOf(row, 'd')}}`).join('\n')}
  - {path: ${T}/library.so}
network:
  matchProtocols:
  - {protocol: icmp}
  - {protocol: packet}
  - {protocol: raw}
  - {protocol: udp, fromSource: [{path: ${T}/talker}]}
  egress:
  - to: [{cidr: 127.66.0.0/16}, {cidr: "fd66::/64"}]
  ingress:
  - ports: [{port: 6601, endPort: 6603}]
  - ports: [{port: 6602, protocol: UDP}]
  - {from: [{cidr: 127.66.0.0/16}]}
capabilities:
  matchCapabilities:
  - {capability: sys_chroot}
  - {capability: net_bind_service, fromSource: [{path: ${T}/talker}]}
presets:
- {name: filelessExec, action: Block}`,
);

let belay: Belay;
let containerCgroup: string;
const places = new Map<string, Shell>();
/** The program that ld.so is, in a place. */
const linkers = new Map<string, string>();

const told = (a: AlertRecord) => ({
  pod: a.pod,
  namespace: a.namespace,
  program: a.process?.program,
  parent: a.process?.parent.program,
  class: a.class,
  operation: a.operation,
  object: a.object,
  policy: `${a.policyNamespace}/${a.policy}`,
  rule: a.rule,
  action: a.action,
  verdict: a.verdict,
  severity: a.severity,
});

beforeAll(async () => {
  const { name, cgroup: path } = containerName();
  containerCgroup = path;
  belay = await Belay.start({
    workloads: [workload('container', path), workload('cgroup', cgroup('operations'))],
  });
  places.set('container', await inContainer(name));
  places.set('cgroup', inCgroup(makeCgroup(cgroup('operations'))));
  for (const [place, shell] of places) {
    const made = ALL.filter((row) => row.make).flatMap((row) => [
      row.make?.(objectOf(row, 'd')),
      row.make?.(objectOf(row, 'n')),
    ]);
    const said = await shell.run(
      `rm -rf ${T}; mkdir -p ${T}/df ${T}/nf ${T}/dp ${T}/np; cp ${shell.act} ${ACTOR}; cp ${ACTOR} ${T}/talker; cp ${ACTOR} ${T}/deleted; ${library(`${T}/library.so`)}; ${library(`${T}/other.so`)}
${made.join('\n')}`,
    );
    expect(said).toBe('');
    linkers.set(place, await shell.run(`busybox readlink -f ${LINKER}`));
    shell.act = ACTOR;
  }
  await belay.enforce(POLICY);
});

afterAll(async () => {
  for (const shell of places.values()) await shell.close();
  await removeCgroup(cgroup('operations'));
  expect(await belay.stop()).toBe(0);
});

const place = (name: string) => {
  const shell = places.get(name);
  if (!shell) throw new Error(`no ${name}`);
  return shell;
};

describe.each(['container', 'cgroup'])('in a %s', (where) => {
  const alertOf = (wanted: (a: AlertRecord) => boolean) => belay.alert((a) => a.pod === where && wanted(a));

  it.each(NAMED)('%s is denied where a rule says so, and told', async (_, row) => {
    const at = row.on?.denied ?? objectOf(row, 'd');
    expect(await place(where).do(...row.act(at))).toBe(row.denied ?? 'EACCES');
    const object = row.object(at);
    const alert = await alertOf((a) => a.operation === row.operation && isDeepStrictEqual(a.object, object));
    expect(told(alert)).toEqual({
      pod: where,
      namespace: 'shop',
      program: row.act('')[1] === LINKER ? linkers.get(where) : ACTOR,
      // act runs programs in a child
      parent: /exec$/.test(row.act('')[0]) ? ACTOR : SHELL,
      class: row.class,
      operation: row.operation,
      object,
      policy: 'shop/operations',
      rule: `${row.rule}[${indexOf(row)}]`,
      action: 'Block',
      verdict: 'Denied',
      severity: 7,
    });
  });

  it.each(NAMED)('%s is untouched beside it', async (_, row) => {
    expect(await place(where).do(...row.act(row.on?.free ?? objectOf(row, 'n')))).toBe('ok');
  });

  it('tells from where a process acts, with which rights, and below whom', async () => {
    // of different objects, since repeats are only counted
    const [words, others] = NAMED.filter(([, { operation }]) => operation === 'open').map(([, row]) =>
      row.act(objectOf(row, 'd')).map(quote).join(' '),
    );
    const shell = place(where);
    const namespaces = (
      await shell.run('for n in mnt pid net user; do busybox readlink /proc/self/ns/$n; done')
    )
      .split('\n')
      .map((link) => Number(/\d+/.exec(link)));
    const capabilities = await shell.run("busybox awk '/CapEff/ {print $2}' /proc/self/status");
    const login = Number(await shell.run('busybox cat /proc/self/loginuid'));
    await shell.run(
      `cd /usr && /bin/sh -c ${quote(`/bin/sh -c ${quote(`${ACTOR} ${words} -there; :`)}; :`)}; cd /`,
    );
    const { process } = await alertOf((a) => a.process?.arguments.includes('-there') === true);
    expect(process).toMatchObject({ cwd: '/usr', capabilities });
    expect([process?.tty, process?.loginUid ?? 4294967295]).toEqual([undefined, login]);
    expect(Object.values(process?.namespaces ?? {})).toEqual(namespaces);
    const [outer, first, ...above] = process?.ancestors?.map(({ comm }) => comm) ?? [];
    expect([outer, first]).toEqual(['sh', 'sh']);
    // up to the first process of the container
    expect(above.length > 0).toBe(where === 'cgroup');
    await shell.run(`cd /usr/lib && ${ACTOR} -pty ${others} -tty; cd /`);
    const onTerminal = await alertOf((a) => a.process?.arguments.includes('-tty') === true);
    expect(onTerminal.process).toMatchObject({ cwd: '/usr/lib', tty: expect.stringMatching(/^pts\d+$/) });
  });

  it('says what a preloaded library is that the dynamic linker may not map', async () => {
    const at = `${T}/library.so`;
    expect(await place(where).run(`LD_PRELOAD=${at} /usr/bin/true`)).toContain('cannot be preloaded');
    const alert = await alertOf((a) => a.object.path === at);
    expect(brief(alert)).toMatchObject({ program: '/usr/bin/true', operation: 'map', verdict: 'Denied' });
    expect(await place(where).run(`LD_PRELOAD=${T}/other.so /usr/bin/true`)).toBe('');
  });

  it('lets nobody run what is in memory only, and programs that have a name', async () => {
    expect(await place(where).do('memfd', ACTOR, 'tcp')).toBe('EACCES');
    expect(await place(where).do('exec', ACTOR, 'tcp')).toBe('ok');
    const alert = await alertOf((a) => a.object.unnamed === true);
    expect({ ...brief(alert), object: alert.object }).toEqual({
      pod: where,
      program: ACTOR,
      class: 'Process',
      operation: 'exec',
      object: { path: 'memfd:act', unnamed: true },
      policy: 'operations',
      rule: 'presets[0]',
      action: 'Block',
      verdict: 'Denied',
    });
  });

  it('lets nobody run what was deleted', async () => {
    expect(await place(where).do('deleted', `${T}/deleted`, 'tcp')).toBe('EACCES');
  });

  it.each([
    ['icmp', 'icmp-raw', 0, 'icmp'],
    ['raw', 'ip-raw', 2, '255'],
    ['packet', 'packet', 1, '0'],
  ])('a %s socket is denied, and told', async (verb, socket, rule, protocol) => {
    expect(await place(where).do(verb)).toBe('EACCES');
    const alert = await alertOf((a) => a.operation === 'socket' && a.object.socket === socket);
    expect({ ...brief(alert), protocol: alert.object.protocol }).toEqual({
      pod: where,
      program: ACTOR,
      class: 'Network',
      operation: 'socket',
      object: socket,
      protocol,
      policy: 'operations',
      rule: `network.matchProtocols[${rule}]`,
      action: 'Block',
      verdict: 'Denied',
    });
  });

  it('other sockets are untouched', async () => {
    expect(await place(where).do('tcp')).toBe('ok');
    expect(await place(where).do('udp')).toBe('ok');
    expect(await place(where).do('unix-stream')).toBe('ok');
  });

  it('a protocol is denied to the program that a rule names, and to no other', async () => {
    expect(await place(where).doAs(`${T}/talker`, 'udp')).toBe('EACCES');
    expect(await place(where).do('udp')).toBe('ok');
    expect(await place(where).doAs(`${T}/talker`, 'tcp')).toBe('ok');
    const alert = await alertOf((a) => a.process?.program === `${T}/talker` && a.operation === 'socket');
    expect(brief(alert)).toMatchObject({
      object: 'udp',
      rule: 'network.matchProtocols[3]',
      verdict: 'Denied',
    });
  });

  it('a bound socket that came from outside may not listen on a port that a rule names', async () => {
    const path = where === 'cgroup' ? cgroup('operations') : containerCgroup;
    const outside = new Shell('/bin/sh', []);
    for (const [port, said] of [
      ['6601', 'EACCES'],
      ['6701', 'ok'],
    ]) {
      const words = [
        '-bound',
        '127.0.0.1',
        port,
        '-cgroup',
        `${path}/cgroup.procs`,
        '-become',
        'listen-given',
      ];
      expect(await outside.do(...words)).toBe(said);
    }
    const alert = await alertOf((a) => a.operation === 'listen');
    expect(brief(alert)).toMatchObject({ class: 'Network', rule: 'network.ingress[0]', verdict: 'Denied' });
    expect(alert.object).toEqual({ socket: 'tcp', protocol: 'tcp', port: 6601 });
    await outside.close();
  });

  it.each([
    ['of a port', '6604'],
    ['of no port in particular', '0'],
  ])('a listener %s is reached by the peers that no rule names', async (_, port) => {
    const from = port === '0' ? 2 : 1;
    expect(await place(where).do('arrive', '127.0.0.1', port, `127.67.1.${from}`)).toBe('ok');
    expect(await place(where).do('arrive', '127.0.0.1', port, `127.66.1.${from}`)).toBe('ETIMEDOUT');
    const alert = await alertOf((a) => a.object.address === `127.66.1.${from}`);
    expect(brief(alert)).toEqual({
      pod: where,
      program: undefined,
      class: 'Network',
      operation: 'accept',
      object: `127.66.1.${from}`,
      policy: 'operations',
      rule: 'network.ingress[2]',
      action: 'Block',
      verdict: 'Denied',
    });
  });

  it.each([
    ['connect to 0.0.0.0 by a device', 'connect', ['connect-device', 'lo', '0.0.0.0', '7000']],
    ['a source route', 'send', ['option', '0', '4']],
    ['a routing header', 'send', ['option', '41', '57']],
    ['options with a flow', 'send', ['option', '41', '32']],
  ])('what %s is sent to could be any address, and is denied', async (_, operation, act) => {
    const from = belay.records().length;
    expect(await place(where).do(...act)).toBe('EACCES');
    const alert = await belay.alert((a) => a.pod === where && a.operation === operation, from);
    expect(brief(alert)).toMatchObject({ class: 'Network', rule: 'unnameable', verdict: 'Denied' });
  });

  it('nobody in particular, and other options, are untouched', async () => {
    expect(await place(where).do('connect', '0.0.0.0', '7000')).toBe('ok');
    expect(await place(where).do('connect-device', 'lo', '127.67.0.1', '7000')).toBe('ok');
    expect(await place(where).do('option', '0', '7')).toBe('ok');
  });

  it("a capability is denied by the kernel's own error, and told", async () => {
    expect(await place(where).do('chroot', '/')).toBe('EPERM');
    expect(await place(where).do('chown', ACTOR)).toBe('ok');
    const alert = await alertOf((a) => a.object.capability === 'sys_chroot');
    expect(brief(alert)).toEqual({
      pod: where,
      program: ACTOR,
      class: 'Capabilities',
      operation: 'capable',
      object: 'sys_chroot',
      policy: 'operations',
      rule: 'capabilities.matchCapabilities[0]',
      action: 'Block',
      verdict: 'Denied',
    });
  });

  it('a capability is denied to the program that a rule names, and to no other', async () => {
    expect(await place(where).doAs(`${T}/talker`, 'bind', '127.0.0.1', '81')).toBe('EACCES');
    expect(await place(where).do('bind', '127.0.0.1', '81')).toBe('ok');
    const alert = await alertOf((a) => a.object.capability === 'net_bind_service');
    expect(brief(alert)).toMatchObject({ program: `${T}/talker`, rule: 'capabilities.matchCapabilities[1]' });
  });

  it('nothing else was reported', async () => {
    const odd = belay.alerts((a) => a.pod === where && a.policy !== 'operations');
    expect(odd.filter((a) => a.rule !== 'unnameable').map(brief)).toEqual([]);
    expect(new Set(odd.map((a) => a.operation))).toEqual(new Set(['connect', 'send']));
    expect(belay.records().filter((r) => r.type !== 'alert')).toEqual([]);
  });
});
