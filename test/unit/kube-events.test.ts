import { expect, test } from 'vitest';
import { cellsOf } from '../../agent/cli/event-columns.js';
import { ApiError, type KubeApi, type RequestDetails } from '../../agent/control/api.js';
import { blockMessage, Events } from '../../agent/control/events.js';
import { alertOf, POLICY_REF } from './records.js';

const look = { socket: 'dgram', protocol: 'udp', address: '10.96.0.10', port: 53, domain: 'google.com' };

test.each([
  ['a name that was looked up', 'dns-query', look, 'google.com', 'google.com'],
  [
    'an address',
    'connect',
    { protocol: 'tcp', address: '2001:db8::7', port: 443 },
    'tcp [2001:db8::7]:443',
    'tcp [2001:db8::7]:443',
  ],
  ['a system call', 'syscall', { syscall: 'unlink', path: '/a' }, 'unlink /a', 'unlink /a'],
  ['a file', 'open', { path: '/a', access: 'write' } as const, '/a', '/a (write)'],
  ['no name', 'exec', { path: '', unnamed: true } as const, 'a file without a name', '(no name)'],
  ['a capability', 'capable', { capability: 'net_raw' }, 'capability net_raw', 'capability net_raw'],
])('a Kubernetes Event and a terminal say what was denied: %s', (_, operation, object, event, cell) => {
  const alert = alertOf({ operation, object, process: undefined, message: '' });
  expect(blockMessage(alert)).toBe(
    `Blocked ${operation} of ${event} by policy no-shells (process.matchPaths[0])`,
  );
  expect(cellsOf(alert, ['object'])).toEqual([cell]);
});

test.each([
  ['MITRE_T1611', 'T1611 Escape to Host'],
  ['MITRE_T1072_software_deployment_tools', 'T1072 Software Deployment Tools'],
  ['MITRE_T1552.007_container_api', 'T1552.007 Container API'],
  ['MITRE_T9999', 'MITRE_T9999'],
  ['shell', 'shell'],
])('a terminal shows by id and name what the tag %s says of ATT&CK', (tag, cell) => {
  expect(cellsOf(alertOf({ tags: [tag, 'mine'] }), ['tags'])).toEqual([`${cell}, mine`]);
});

test('the Event of a policy that stays rejected is renewed, or the API server would let it go after an hour', async () => {
  const asked: (RequestDetails & { path: string })[] = [];
  const api = {
    async request(path: string, details: RequestDetails) {
      asked.push({ path, ...details });
      if (details.method === 'POST') throw new ApiError(409, 'AlreadyExists', 'there is one');
      return {};
    },
    found() {},
    forget() {},
  };
  const events = new Events({ api: api as unknown as KubeApi, node: 'one', timing: { quiet: 1 } });
  events.rejected({ ref: { ...POLICY_REF, uid: 'u', generation: 2 }, accepted: false, diagnostics: [] });
  await expect.poll(() => asked.length).toBe(2);
  events.close();
  expect(asked[1]).toMatchObject({
    method: 'PATCH',
    path: expect.stringMatching(/^\/api\/v1\/namespaces\/shop\/events\/web\.[0-9a-f]{16}$/),
    body: { count: 1, lastTimestamp: expect.stringMatching(/Z$/) },
  });
});
