import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ACT,
  Belay,
  brief,
  cgroup,
  eventually,
  inCgroup,
  makeCgroup,
  policy,
  removeCgroup,
  Shell,
  T,
  workload,
} from './harness.js';

const path = cgroup('names');
const RACES = Number(process.env.BELAY_RACES ?? 100_000);
/** A component as long as one can be. */
const LONG = 'n'.repeat(255);

let belay: Belay;
let shell: Shell;

const file = (name: string) => {
  writeFileSync(`${T}/${name}`, '');
  return `${T}/${name}`;
};
const folder = (name: string) => mkdirSync(`${T}/${name}`, { recursive: true });
/** Below T, so many times the component, and a file; made and acted on by way of the working directory. */
const deep = (component: string, times: number, ...words: string[]) =>
  shell.do('-deep', T, component, String(times), ...words);
const nameOf = (component: string, times: number, name: string) =>
  `${T}/${`${component}/`.repeat(times)}${name}`;

beforeAll(async () => {
  rmSync(T, { recursive: true, force: true });
  for (const name of ['d', 'moving/a/sub', 'race/a/sub', 'views', 'jail/inner', 'a1/b1', 'links', 'lost'])
    folder(name);
  makeCgroup(path);
  belay = await Belay.start({ workloads: [workload('names', path), workload('volume', cgroup('volume'))] });
  shell = inCgroup(path);
  expect(await shell.do('tcp')).toBe('ok');
});

afterAll(async () => {
  await shell.close();
  await removeCgroup(path);
  // it has names that are longer than Node can say
  execFileSync('rm', ['-rf', T]);
  expect(await belay.stop()).toBe(0);
});

/** An empty file system of 16 MiB: a boot sector, two tables of 32 sectors, a root of 512 entries, clusters of 2 KiB. */
function fat16(): Buffer {
  const image = Buffer.alloc(16 << 20);
  image.set([0xeb, 0x3c, 0x90]);
  for (const [at, value] of [
    [11, 512], // bytes of a sector
    [14, 1], // sectors before the tables
    [17, 512],
    [19, image.length / 512],
    [22, 32],
    [510, 0xaa55],
  ] as const)
    image.writeUInt16LE(value, at);
  image[13] = 4; // sectors of a cluster
  image[16] = 2;
  image[21] = 0xf8; // a disk
  for (const table of [1, 33]) image.set([0xf8, 0xff, 0xff, 0xff], table * 512);
  return image;
}

const enforce = (spec: string) => belay.enforce(policy('names', spec));
const denied = (object: string) => belay.alert((a) => a.object.path === object);

describe('long names', () => {
  it('of nearly 4096 bytes are matched and told whole', async () => {
    const times = Math.floor((4090 - T.length) / 256);
    const name = nameOf(LONG, times, 'x'.repeat(60));
    expect(name.length).toBeGreaterThan(3900);
    await enforce(`file: {matchPatterns: [{pattern: "${T}/n*/**/x*"}]}`);
    expect(await deep(LONG, times, 'create', 'x'.repeat(60))).toBe('EACCES');
    expect(await deep(LONG, times, 'create', 'y'.repeat(60))).toBe('ok');
    expect((await denied(name)).object.pathBytes).toBeUndefined();
  });

  it('of 200 components are matched and told whole', async () => {
    await enforce(`file: {matchDirectories: [{dir: ${T}/c/, recursive: true}]}`);
    folder('c');
    expect(await shell.do('-deep', '/', 'tmp', '0', 'read', `${T}/c/none`)).toBe('ENOENT');
    folder(Array(201).fill('c').join('/'));
    folder(Array(201).fill('e').join('/'));
    file(`${Array(201).fill('c').join('/')}/file`);
    expect(await shell.do('read', `${T}/${'c/'.repeat(201)}file`)).toBe('EACCES');
    expect(await shell.do('create', `${T}/${'e/'.repeat(201)}file`)).toBe('ok');
    await denied(`${T}/${'c/'.repeat(201)}file`);
  });

  it('of more than 4096 bytes are denied where any rule could apply, and counted', async () => {
    const outside = new Shell('/bin/sh', []);
    expect(await outside.do('-deep', T, LONG, '17', 'create', 'there')).toBe('ok');
    await outside.close();
    await enforce('file: {matchPaths: [{path: /none}]}');
    expect(await deep(LONG, 17, 'read', 'there')).toBe('EACCES');
    expect(await deep(LONG, 17, 'create', 'z')).toBe('EACCES');
    const alert = await belay.alert((a) => a.rule === 'unnameable' && a.operation === 'create');
    expect(alert).toMatchObject({ verdict: 'Denied', policy: '' });
    await eventually('it is counted', () =>
      belay.records().find((r) => r.type === 'failure' && r.failure === 'FAILURE_NAME_LONG'),
    );
  });

  it('of more than 4096 bytes are nobody else’s business: without rules for files they pass', async () => {
    await enforce('capabilities: {matchCapabilities: [{capability: sys_boot}]}');
    expect(await deep(LONG, 17, 'create', 'z')).toBe('ok');
    expect(await deep(LONG, 17, 'read', 'z')).toBe('ok');
  });
});

it('a component of more than 255 bytes is denied where any rule could apply', async () => {
  // that file system counts characters
  const name = '€'.repeat(120);
  folder('fat');
  writeFileSync(`${T}/fat.img`, fat16());
  const script = `modprobe -a loop vfat nls_cp437 nls_ascii && mount -o loop,utf8 -t vfat ${T}/fat.img ${T}/fat &&
    touch ${T}/fat/${name} ${T}/fat/short`;
  execFileSync('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    await enforce('file: {matchPaths: [{path: /none}]}');
    expect(await shell.do('read', `${T}/fat/short`)).toBe('ok');
    expect(await shell.do('read', `${T}/fat/${name}`)).toBe('EACCES');
    await enforce('capabilities: {matchCapabilities: [{capability: sys_boot}]}');
    expect(await shell.do('read', `${T}/fat/${name}`)).toBe('ok');
  } finally {
    execFileSync('umount', [`${T}/fat`]);
  }
});

it('a snapshot of what may be protected is denied', async () => {
  await enforce('capabilities: {matchCapabilities: [{capability: sys_boot}]}');
  expect(await shell.do('snapshot', T)).toBe('ENOTTY');
  await enforce('file: {matchPaths: [{path: /none}]}');
  expect(await shell.do('snapshot', T)).toBe('EACCES');
});

describe('names of any bytes', () => {
  it.each([
    ['a newline', 'line\nbreak', undefined],
    ['quotes and control characters', `it's "\t\u0001"`, undefined],
    ['other scripts', 'Ключ-鍵', undefined],
  ])('with %s are matched and told', async (_, name) => {
    file(`d/${name}`);
    await enforce(`file: {matchDirectories: [{dir: ${T}/d/}]}`);
    expect(await shell.do('read', `${T}/d/${name}`)).toBe('EACCES');
    expect((await denied(`${T}/d/${name}`)).object).toEqual({ path: `${T}/d/${name}`, access: 'read' });
  });

  it('that are no UTF-8 are matched, and told as bytes', async () => {
    await enforce(`file: {matchPatterns: [{pattern: "${T}/d/x*y"}]}`);
    const name = '"$(printf \'/tmp/t/d/x\\377\\300y\')"';
    expect(await shell.run(`${ACT} create ${name}`)).toBe('EACCES');
    const bytes = Buffer.from('/tmp/t/d/x\xff\xc0y', 'latin1');
    const alert = await belay.alert((a) => a.object.pathBytes !== undefined);
    expect(alert.object).toEqual({
      path: bytes.toString('utf8'),
      pathBytes: bytes.toString('base64'),
      access: 'write',
    });
  });
});

describe('another way to the same file', () => {
  const SECRET = `${T}/views/secret`;
  const SAME = 'EACCES';

  beforeAll(async () => {
    file('views/secret');
    file('views/other');
    folder('views/link');
    folder('mnt');
    folder('usermnt');
    symlinkSync(SECRET, `${T}/links/symlink`);
    symlinkSync(`${T}/views`, `${T}/links/folder`);
    await enforce(
      `file: {matchPaths: [{path: ${SECRET}}]}\nprocess: {matchPaths: [{path: ${T}/views/program}]}`,
    );
  });

  it.each([
    ['a symbolic link', [], `${T}/links/symlink`],
    ['a symbolic link to its directory', [], `${T}/links/folder/secret`],
    ['dots', [], `${T}/views/../views/./secret`],
    ['the working directory', ['-C', `${T}/views`], 'secret'],
    ['/proc/self/root', [], `/proc/self/root${SECRET}`],
    ['/proc/self/cwd', ['-C', `${T}/views`], '/proc/self/cwd/secret'],
    ['a chroot', ['-chroot', T], '/views/secret'],
    ['a bind mount in a mount namespace of its own', ['-bind', `${T}/views`, `${T}/mnt`], `${T}/mnt/secret`],
    ['a bind mount of the file', ['-bind', SECRET, `${T}/views/other`], `${T}/views/other`],
    [
      'a bind mount in a user namespace',
      ['-u', '1000', '-userbind', `${T}/views`, `${T}/usermnt`],
      `${T}/usermnt/secret`,
    ],
  ])('%s changes nothing', async (_, prefix, name) => {
    expect(await shell.do(...prefix, 'read', name)).toBe(SAME);
    expect(await shell.do(...prefix, 'write', name)).toBe(SAME);
  });

  it('a mount that hangs nowhere changes nothing', async () => {
    expect(await shell.do('read-detached', `${T}/views`, 'secret')).toBe(SAME);
  });

  it('the neighbour stays free by each of them', async () => {
    expect(await shell.do('-chroot', T, 'read', '/views/other')).toBe('ok');
    expect(await shell.do('-bind', `${T}/views`, `${T}/mnt`, 'read', `${T}/mnt/other`)).toBe('ok');
    expect(await shell.do('read-detached', `${T}/views`, 'other')).toBe('ok');
  });

  it('what is bind-mounted over a protected name is itself', async () => {
    expect(await shell.do('-bind', `${T}/views/other`, SECRET, 'read', SECRET)).toBe('ok');
  });

  it('a chroot does not make a name into a protected one', async () => {
    folder(`jail/inner${T}/views`);
    file(`jail/inner${T}/views/secret`);
    expect(await shell.do('-chroot', `${T}/jail/inner`, 'read', SECRET)).toBe('ok');
  });

  it('a hard link that is older than the policy has its own name only', async () => {
    linkSync(SECRET, `${T}/links/hard`);
    expect(await shell.do('read', `${T}/links/hard`)).toBe('ok');
  });

  it('no new hard link is made', async () => {
    expect(await shell.do('link', SECRET, `${T}/links/new`)).toBe('EACCES');
  });

  it('a descriptor that somebody outside has opened is not received', async () => {
    const outside = new Shell('/bin/sh', []);
    const receive = (name: string) =>
      outside.do('-sent', name, '-cgroup', `${path}/cgroup.procs`, '-become', 'receive');
    expect(await receive(SECRET)).toBe('EBADMSG');
    expect(await receive(`${T}/views/other`)).toBe('ok');
    const alert = await belay.alert((a) => a.operation === 'receive');
    expect(brief(alert)).toMatchObject({ object: SECRET, verdict: 'Denied' });
    await outside.close();
  });

  it('a deleted program is denied where any program is', async () => {
    expect(await shell.run(`cp ${ACT} ${T}/gone`)).toBe('');
    expect(await shell.do('deleted', `${T}/gone`, 'tcp')).toBe('EACCES');
    const alert = await belay.alert((a) => a.rule === 'unnamed');
    expect(brief(alert)).toMatchObject({ operation: 'exec', verdict: 'Denied', policy: '' });
  });
});

describe('a file system that was there, and is unmounted', () => {
  it('does not lend its name to the directory that comes to lie where its root lay in memory', async () => {
    for (const name of ['volume', 'reused', 'view']) folder(name);
    const itsOwn = makeCgroup(cgroup('volume'));
    await enforce(`file: {matchPatterns: [{pattern: ${T}/reused/*/secret}]}`);
    const inside = new Shell('unshare', [
      ...['-m', '--propagation', 'private', '/bin/sh', '-c'],
      `mount -t tmpfs none ${T}/volume; echo $$ > ${itsOwn}/cgroup.procs; exec /bin/sh`,
    ]);
    expect(await inside.run(`mount --bind ${T}/reused ${T}/view && umount ${T}/volume`)).toBe('');
    // the kernel gives memory out again that was just given back: one of so many gets it
    for (let i = 0; i < 2000; i++) {
      folder(`reused/${i}`);
      writeFileSync(`${T}/reused/${i}/secret`, '.');
    }
    expect(await inside.run(`cat ${T}/view/*/secret 2>/dev/null`)).toBe('');
    await inside.close();
    await removeCgroup(itsOwn);
    rmSync(`${T}/reused`, { recursive: true });
  });
});

describe('a program without a name that ran before its workload was known', () => {
  it('is judged, also where its root is a directory of the node’s own file system', async () => {
    const root = mkdtempSync('/var/tmp/root-');
    const late = makeCgroup(cgroup('late'));
    copyFileSync(ACT, `${root}/act`);
    for (const name of ['secret', 'other']) writeFileSync(`${root}/${name}`, '');
    const words = ['-cgroup', `${late}/cgroup.procs`, '-bind', root, root, '-chroot', root, 'memfd', '/act'];
    const program = spawn(ACT, [...words, '-serve'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const answers = createInterface(program.stdout)[Symbol.asyncIterator]();
    const act = async (...words: string[]) => {
      program.stdin.write(`${words.join('\t')}\n`);
      return (await answers.next()).value;
    };
    expect(await act('read', '/secret')).toBe('ok');
    await enforce(`file: {matchPaths: [{path: ${root}/secret}]}`);
    belay.writeWorkloads([workload('names', path), workload('late', late)]);
    await eventually('the verdict', async () => (await act('read', '/secret')) === 'EACCES' || undefined);
    expect(await act('read', '/other')).toBe('ok');
    program.stdin.end();
    await once(program, 'exit');
    await removeCgroup(late);
    rmSync(root, { recursive: true });
  });
});

describe('moving directories', () => {
  it('is denied above what a rule protects, and nowhere else', async () => {
    const outside = new Shell('/bin/sh', []);
    file('a1/b1/secret');
    await enforce(`file: {matchPaths: [{path: ${T}/a1/b1/secret}]}`);
    expect(await shell.do('rename', `${T}/a1/b1`, `${T}/a1/b2`)).toBe('EACCES');
    expect(await shell.do('rename', `${T}/a1`, `${T}/a2`)).toBe('EACCES');
    expect(await shell.do('exchange', `${T}/links`, `${T}/a1`)).toBe('EACCES');
    expect(await shell.do('rename', `${T}/lost`, `${T}/found`)).toBe('ok');
    // nor is another put in place of one that is not there
    expect(await outside.do('rename', `${T}/a1/b1`, `${T}/a1/b3`)).toBe('ok');
    expect(await shell.do('rename', `${T}/found`, `${T}/a1/b1`)).toBe('EACCES');
    expect(await shell.do('rename', `${T}/found`, `${T}/a1/b2`)).toBe('ok');
    await outside.close();
    const alert = await belay.alert((a) => a.object.path === `${T}/a1`);
    expect(brief(alert)).toMatchObject({
      operation: 'rename',
      rule: 'file.matchPaths[0]',
      verdict: 'Denied',
    });
  });

  it('from outside changes names at once', async () => {
    const outside = new Shell('/bin/sh', []);
    file('moving/a/sub/secret');
    await enforce(`file: {matchPaths: [{path: ${T}/moving/a/sub/secret}]}`);
    expect(await shell.do('read', `${T}/moving/a/sub/secret`)).toBe('EACCES');
    expect(await outside.do('rename', `${T}/moving/a`, `${T}/moving/b`)).toBe('ok');
    expect(await shell.do('read', `${T}/moving/b/sub/secret`)).toBe('ok');
    expect(await outside.do('rename', `${T}/moving/b`, `${T}/moving/a`)).toBe('ok');
    expect(await shell.do('read', `${T}/moving/a/sub/secret`)).toBe('EACCES');
    await outside.close();
  });

  it(`under way never lets a denied file be opened, ${RACES} times`, async () => {
    const outside = new Shell('/bin/sh', []);
    file('race/a/sub/secret');
    file('race/a/sub/other');
    await enforce(`file: {matchPatterns: [{pattern: ${T}/race/**/secret}]}`);
    await outside.run(`${ACT} -n 1000000000 swap ${T}/race/a ${T}/race/b > /dev/null & echo $! > ${T}/mover`);
    const either = (name: string) => [`${T}/race/a/sub/${name}`, `${T}/race/b/sub/${name}`];
    expect(await shell.do('-n', String(RACES), 'read-either', ...either('secret'))).toBe('0');
    expect(await outside.run(`kill $(cat ${T}/mover)`)).toBe('');
    await outside.close();
  });

  it('from inside, where that is not denied, changes nothing either', async () => {
    const inside = inCgroup(path);
    await inside.run(`${ACT} -n 1000000000 swap ${T}/race/a ${T}/race/b > /dev/null & echo $! > ${T}/mover`);
    expect(
      await shell.run(`until cd ${T}/race/b/sub 2> /dev/null || cd ${T}/race/a/sub 2> /dev/null; do :; done
${ACT} -n ${RACES / 10} read secret; ${ACT} -n ${RACES / 10} read other`),
    ).toBe(`0\n${RACES / 10}`);
    expect(await inside.run(`kill $(cat ${T}/mover)`)).toBe('');
    await inside.close();
  });
});
