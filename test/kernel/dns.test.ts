import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Belay,
  brief,
  cgroup,
  eventually,
  inCgroup,
  makeCgroup,
  policy,
  removeCgroup,
  type Shell,
  T,
  workload,
} from './harness.js';

/** What reached the name servers, by name, in the order of arrival. */
const arrived: string[] = [];
const servers: Socket[] = [];
let streams: Server;

function nameIn(message: Buffer): string {
  const labels: string[] = [];
  for (let at = 12; message[at] > 0; at += message[at] + 1)
    labels.push(message.toString('latin1', at + 1, at + 1 + message[at]));
  return labels.join('.');
}

beforeAll(async () => {
  for (const [type, address] of [
    ['udp4', '127.0.0.1'],
    ['udp6', '::1'],
  ] as const) {
    const server = createSocket(type).on('message', (message) => arrived.push(nameIn(message)));
    await new Promise<void>((resolve) => server.bind(53, address, resolve));
    servers.push(server);
  }
  streams = createServer((connection) => {
    let bytes = Buffer.alloc(0);
    connection.on('error', () => {});
    connection.on('data', (more) => {
      bytes = Buffer.concat([bytes, more]);
      while (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE(0)) {
        const end = 2 + bytes.readUInt16BE(0);
        arrived.push(nameIn(bytes.subarray(2, end)));
        bytes = bytes.subarray(end);
        connection.write('.');
      }
    });
  });
  await new Promise<void>((resolve) => streams.listen(53, '127.0.0.1', resolve));
});

let belay: Belay;
let shell: Shell;

beforeAll(async () => {
  belay = await Belay.start({ workloads: [workload('w', cgroup('dns'))] });
  shell = inCgroup(makeCgroup(cgroup('dns')));
  await shell.run(`mkdir -p ${T}; cp ${shell.act} ${T}/resolver`);
});

afterAll(async () => {
  await shell?.close();
  await removeCgroup(cgroup('dns'));
  for (const server of servers) server.close();
  streams?.close();
  expect(await belay?.stop()).toBe(0);
});

/** What was said, and what got to the server. */
async function ask(who: Shell, how: string, name: string, address = '127.0.0.1') {
  arrived.length = 0;
  const said = await who.do('ask', how, address, name);
  if (said === 'ok' && !['cut', 'segmented', 'segment'].includes(how))
    await eventually(`${name} arrives`, () => arrived.at(-1));
  return { said, arrived: [...arrived] };
}

const UDP = ['sendto', 'send', 'write', 'io_uring', 'raw'] as const;

describe('names that a rule blocks', () => {
  beforeAll(() =>
    belay.enforce(policy('names', 'severity: 10\nnetwork: {matchDNSQueries: [{domain: Google.com}]}')),
  );

  it.each(UDP)('are not asked for by %s, and told', async (how) => {
    const name = `${how.replace('_', '-')}.google.com`;
    expect(await ask(shell, how, name)).toEqual({ said: 'EPERM', arrived: [] });
    const alert = await belay.alert((a) => a.object.domain === name);
    expect({ ...brief(alert), severity: alert.severity, object: alert.object }).toEqual({
      pod: 'w',
      program: alert.process?.program,
      class: 'Network',
      operation: 'dns-query',
      object: { domain: name, socket: 'udp', protocol: 'udp', address: '127.0.0.1', port: 53 },
      policy: 'names',
      rule: 'network.matchDNSQueries[0]',
      action: 'Block',
      verdict: 'Denied',
      severity: 10,
    });
    expect(alert.process?.program).toMatch(/\/act$/);
    expect(alert.process?.arguments.slice(1)).toEqual(['ask', how, '127.0.0.1', name]);
  });

  it.each(UDP)('leave others free, asked for by %s', async (how) => {
    expect(await ask(shell, how, 'duckduckgo.com')).toEqual({ said: 'ok', arrived: ['duckduckgo.com'] });
  });

  it.each([
    ['the domain itself', 'google.com'],
    ['another case', 'WWW.GooGLE.cOm'],
    ['far below', 'a.b.c.d.e.f.google.com'],
  ])('are blocked as %s', async (_, name) => {
    expect(await ask(shell, 'sendto', name)).toEqual({ said: 'EPERM', arrived: [] });
    await belay.alert((a) => a.object.domain === name.toLowerCase());
  });

  it.each([
    ['a name that only ends in the same letters', 'notgoogle.com'],
    ['a name that only begins with it', 'google.com.example'],
    ['its parent', 'com'],
  ])('leave %s free', async (_, name) => {
    expect(await ask(shell, 'sendto', name)).toEqual({ said: 'ok', arrived: [name] });
  });

  it('do not leave as the second of several messages in a call', async () => {
    expect(await ask(shell, 'sendmmsg', 'second.google.com')).toEqual({
      said: 'EPERM',
      arrived: ['free.example'],
    });
  });

  it('do not leave over IPv6, nor behind an option header', async () => {
    expect(await ask(shell, 'sendto', 'six.google.com', '::1')).toEqual({ said: 'EPERM', arrived: [] });
    const alert = await belay.alert((a) => a.object.domain === 'six.google.com');
    expect(alert.object.address).toBe('::1');
    expect(await ask(shell, 'option', 'option.google.com', '::1')).toEqual({ said: 'EPERM', arrived: [] });
    expect(await ask(shell, 'option', 'free.com', '::1')).toEqual({ said: 'ok', arrived: ['free.com'] });
  });

  it.each([
    ['in fragments of its own making', 'fragments', '127.0.0.1'],
    ['as one of the datagrams that the device cuts', 'segmented', '127.0.0.1'],
    ['cut short', 'cut', '127.0.0.1'],
    ['as a segment by a raw socket', 'segment', '127.0.0.1'],
    ['in pieces', 'corked', '127.0.0.1'],
  ])('do not leave %s, where the name cannot be told', async (_, how, address) => {
    const from = belay.records().length;
    expect((await ask(shell, how, 'hidden.google.com', address)).said).toBe('EPERM');
    expect(arrived).not.toContain('hidden.google.com');
    const alert = await belay.alert((a) => a.operation === 'dns-query' && a.rule === 'unnameable', from);
    expect(alert.verdict).toBe('Denied');
    await eventually('the failure is counted', () =>
      belay.records().find((r) => r.type === 'failure' && r.failure === 'FAILURE_QUERY'),
    );
  });

  it.each([
    ['whole', 'tcp', []],
    ['byte by byte', 'tcp-bytes', []],
    ['behind another question in the same segment', 'tcp-second', []],
    ['behind one whose padding looks like a longer one', 'padded', ['free.example']],
  ])('do not leave over TCP, %s', async (_, how, others) => {
    const name = `${how}.google.com`;
    expect(await ask(shell, how, name)).toEqual({ said: 'ETIMEDOUT', arrived: others });
    const alert = await belay.alert((a) => a.object.domain === name);
    expect(alert.object).toMatchObject({ socket: 'tcp', protocol: 'tcp', port: 53 });
    expect(alert.process?.program).toMatch(/\/act$/);
  });

  it.each(['tcp', 'tcp-bytes'])('leave others free over TCP, by %s', async (how) => {
    expect(await ask(shell, how, 'free.com')).toEqual({ said: 'ok', arrived: ['free.com'] });
  });

  it('do not leave from a pipe, whose memory may be the sender’s, whether or not the kernel copies it', async () => {
    const from = belay.records().length;
    expect(await ask(shell, 'splice', 'hidden.google.com')).toEqual({ said: 'EPERM', arrived: [] });
    await belay.alert((a) => a.operation === 'dns-query', from);
  });

  it.each([
    ['behind an urgent byte, which the server does not read', 'urgent'],
    ['from memory that stays the sender’s', 'zerocopy'],
  ])('do not leave over TCP %s', async (_, how) => {
    const from = belay.records().length;
    expect(await ask(shell, how, 'hidden.google.com')).toEqual({ said: 'ETIMEDOUT', arrived: [] });
    await belay.alert((a) => a.operation === 'dns-query' && a.rule === 'unnameable', from);
  });

  it('leaves a server several questions on a connection', async () => {
    expect(await ask(shell, 'tcp-second', 'free.com')).toEqual({
      said: 'ok',
      arrived: ['free.example', 'free.com'],
    });
  });
});

describe('sources', () => {
  beforeAll(() =>
    belay.enforce(
      policy(
        'sourced',
        `network: {matchDNSQueries: [{domain: google.com, fromSource: [{path: ${T}/resolver}]}]}`,
      ),
    ),
  );

  it('are the program that asks', async () => {
    const by = (program: string) => shell.doAs(program, 'ask', 'sendto', '127.0.0.1', 'sourced.google.com');
    expect(await by(`${T}/resolver`)).toBe('EPERM');
    expect(await by(shell.act)).toBe('ok');
    const alert = await belay.alert((a) => a.object.domain === 'sourced.google.com');
    expect(alert.process?.program).toBe(`${T}/resolver`);
  });
});

describe('an allow-list', () => {
  beforeAll(async () => {
    await belay.enforce(
      policy(
        'allowed',
        `network:
  matchDNSQueries:
  - {domain: example.com, action: Allow}
  - {domain: "*.deep.example.com", action: Block}`,
      ),
    );
  });

  it('reports what it does not name where the posture is audit', async () => {
    expect(await ask(shell, 'sendto', 'unlisted.org')).toEqual({ said: 'ok', arrived: ['unlisted.org'] });
    const alert = await belay.alert((a) => a.object.domain === 'unlisted.org');
    expect(alert).toMatchObject({ rule: 'DefaultPosture', verdict: 'Passed' });
  });

  it('says nothing of what it allows, and the deeper domain decides', async () => {
    expect((await ask(shell, 'sendto', 'www.example.com')).said).toBe('ok');
    expect((await ask(shell, 'sendto', 'deep.example.com')).said).toBe('ok');
    expect((await ask(shell, 'sendto', 'very.deep.example.com')).said).toBe('EPERM');
    await belay.alert((a) => a.object.domain === 'very.deep.example.com');
    expect(belay.alerts((a) => a.object.domain === 'www.example.com')).toEqual([]);
  });

  it('is not fooled by a dot inside of a label', async () => {
    expect((await ask(shell, 'sendto', 'evil\\.example.com')).said).toBe('ok');
    const alert = await belay.alert((a) => a.object.domain === 'evil\\example.com');
    expect(alert.rule).toBe('DefaultPosture');
  });
});

describe('rules that only report', () => {
  beforeAll(() =>
    belay.enforce(policy('audited', 'network: {matchDNSQueries: [{domain: google.com, action: Audit}]}')),
  );

  it('let every query pass, the ones that cannot be read included', async () => {
    expect((await ask(shell, 'sendto', 'audit.google.com')).said).toBe('ok');
    const alert = await belay.alert((a) => a.object.domain === 'audit.google.com');
    expect(alert).toMatchObject({ rule: 'network.matchDNSQueries[0]', action: 'Audit', verdict: 'Passed' });
    expect((await ask(shell, 'cut', 'audit.google.com')).said).toBe('ok');
  });
});

it('without rules on names, no program looks at packets', async () => {
  await belay.enforce(policy('none', 'file: {matchPaths: [{path: /nothing}]}'));
  expect((await ask(shell, 'sendto', 'www.google.com')).said).toBe('ok');
});
