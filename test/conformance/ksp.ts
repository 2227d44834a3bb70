import { armor, type Case, denied, POSTURE, passes, says, TOKENS, user1 } from './case.js';

const U1 = 'ubuntu-1';
const U2 = 'ubuntu-2';
const U3 = 'ubuntu-3';
const HOME = '/home/user1';
const SECRET = `${HOME}/secret_data1.txt`;
const OTHER = `${HOME}/otherfile.txt`;
const KEY = `${HOME}/dir1/key1.txt`;
const READWRITE = `${HOME}/readwrite`;

const of = (pod: string) => `selector: {matchLabels: {container: ${pod}}}`;
const group = (name: string) => `selector: {matchLabels: {group: ${name}}}`;
const program = (path: string, more = '') => `process: {matchPaths: [{path: ${path}${more}}]}`;
const file = (path: string, more = '') => `file: {matchPaths: [{path: ${path}${more}}]}`;
const directory = (dir: string, more = '') => `file: {matchDirectories: [{dir: ${dir}${more}}]}`;
const from = (path: string) => `, fromSource: [{path: ${path}}]`;
const append = (path: string) => `echo x >> ${path}`;
/** Through the reading and writing tool. */
const tool = (what: 'read' | 'write', path: string) => `${READWRITE} --${what} ${path}`;
const ARPING = 'arping -c 1 -i veth0 10.98.0.1';

/** tests/k8s_env/ksp, by its numbers, with the posture block; 1 and 41 are not about policies of this form. */
export const KSP: readonly (Case & { readonly number: number })[] = [
  {
    number: 2,
    name: 'a capability is blocked',
    policies: [
      armor(
        'cap',
        `severity: 1, ${of(U1)}, capabilities: {matchCapabilities: [{capability: net_raw}]}, action: Block`,
      ),
    ],
    steps: [says(U1, ARPING, /CAP_NET_RAW/)],
    alerts: [{ policy: 'cap', severity: 1, action: 'Block', verdict: 'Denied', resource: 'net_raw' }],
  },
  {
    number: 3,
    name: 'a capability is blocked to one program',
    policies: [
      armor(
        'cap-from',
        `severity: 1, ${of(U1)}, capabilities: {matchCapabilities: [{capability: net_raw${from('/usr/sbin/arping')}}]}, action: Block`,
      ),
    ],
    steps: [says(U1, ARPING, /CAP_NET_RAW/), passes(U1, 'ping -c 1 127.0.0.1')],
    alerts: [{ policy: 'cap-from', severity: 1, action: 'Block', verdict: 'Denied', resource: 'net_raw' }],
  },
  {
    number: 4,
    name: 'a program is blocked in a group of pods',
    policies: [
      armor(
        'group',
        `severity: 5, message: block /bin/sleep, ${group('group-1')}, ${program('/bin/sleep')}, action: Block`,
      ),
    ],
    steps: [denied(U1, 'sleep 1'), denied(U3, 'sleep 1'), passes(U2, 'sleep 0.1')],
    alerts: [
      {
        policy: 'group',
        severity: 5,
        action: 'Block',
        verdict: 'Denied',
        pod: U1,
        message: 'block /bin/sleep',
        resource: '/bin/sleep',
      },
      { policy: 'group', severity: 5, action: 'Block', verdict: 'Denied', pod: U3 },
    ],
  },
  {
    number: 5,
    name: 'a program is audited in a group of pods',
    policies: [armor('audit', `severity: 4, ${group('group-2')}, ${program('/bin/sleep')}, action: Audit`)],
    steps: [passes(U2, 'sleep 0.1')],
    alerts: [
      { policy: 'audit', severity: 4, action: 'Audit', verdict: 'Passed', pod: U2, resource: '/bin/sleep' },
    ],
  },
  {
    number: 6,
    name: 'programs directly in a directory are blocked',
    policies: [
      armor('dir', `severity: 6, ${of(U1)}, process: {matchDirectories: [{dir: /sbin/}]}, action: Block`),
    ],
    steps: [denied(U1, 'route')],
    alerts: [{ policy: 'dir', severity: 6, action: 'Block', verdict: 'Denied', resource: '/sbin/route' }],
  },
  {
    number: 7,
    name: 'programs anywhere below a directory are blocked',
    policies: [
      armor(
        'tree',
        `severity: 2, ${of(U1)}, process: {matchDirectories: [{dir: /usr/, recursive: true}]}, action: Block`,
      ),
    ],
    steps: [denied(U1, 'whoami'), passes(U1, '/bin/true')],
    alerts: [
      { policy: 'tree', severity: 2, action: 'Block', verdict: 'Denied', resource: '/usr/bin/whoami' },
    ],
  },
  {
    number: 8,
    name: 'a program is blocked to another',
    policies: [
      armor('from', `severity: 3, ${of(U3)}, ${program('/bin/ls', from('/bin/dash'))}, action: Block`),
    ],
    steps: [denied(U3, 'dash -c ls'), passes(U3, 'dash -c pwd'), passes(U3, 'ls')],
    alerts: [{ policy: 'from', severity: 3, action: 'Block', verdict: 'Denied', resource: '/bin/ls' }],
  },
  {
    number: 9,
    name: 'only what is listed is allowed',
    policies: [
      armor(
        'allow',
        `severity: 4, ${of(U1)}, action: Allow, process: {matchDirectories: [{dir: /bin/, recursive: true}, {dir: /usr/bin/, recursive: true}]},
         file: {matchDirectories: [${[
           '/bin/',
           '/usr/',
           '/lib/',
           '/lib64/',
           '/credentials/',
           '/dev/',
           '/proc/',
           '/root/',
         ]
           .map((dir) => `{dir: ${dir}, recursive: true}`)
           .join(', ')}], matchPaths: [{path: /etc/ld.so.cache}, {path: /etc/passwd}]}`,
      ),
    ],
    steps: [denied(U1, 'cat /etc/hostname'), passes(U1, 'cat /credentials/password')],
    alerts: [{ policy: POSTURE, action: 'Block', verdict: 'Denied', resource: '/etc/hostname' }],
  },
  {
    number: 10,
    name: 'a program is allowed to its owner',
    policies: [
      armor(
        'allow-owner',
        `severity: 7, ${of(U3)}, action: Allow, process: {matchPaths: [{path: ${HOME}/hello, ownerOnly: true}],
         matchDirectories: [{dir: /bin/, recursive: true}, {dir: /usr/bin/, recursive: true}]}`,
      ),
    ],
    steps: [denied(U3, `${HOME}/hello`), says(U3, user1(`${HOME}/hello`), /^hello/)],
    alerts: [{ policy: 'allow-owner', action: 'Allow', verdict: 'Denied', resource: `${HOME}/hello` }],
  },
  {
    number: 11,
    name: 'a program is blocked to all but its owner',
    policies: [
      armor(
        'owner',
        `severity: 7, ${of(U3)}, ${program(`${HOME}/hello`, ', ownerOnly: true')}, action: Block`,
      ),
    ],
    steps: [denied(U3, `${HOME}/hello`), says(U3, user1(`${HOME}/hello`), /^hello/)],
    alerts: [{ policy: 'owner', severity: 7, action: 'Block', verdict: 'Denied', resource: `${HOME}/hello` }],
  },
  {
    number: 12,
    name: 'a program is blocked by its name',
    policies: [
      armor('name', `severity: 5, ${of(U1)}, process: {matchPaths: [{execname: apt}]}, action: Block`),
    ],
    steps: [denied(U1, 'apt --version'), passes(U1, 'apt-get --version')],
    alerts: [{ policy: 'name', severity: 5, action: 'Block', verdict: 'Denied', resource: '/usr/bin/apt' }],
  },
  {
    number: 13,
    name: 'expressions choose pods: In and NotIn',
    policies: [
      armor(
        'in-not-in',
        `severity: 5, selector: {matchExpressions: [{key: label, operator: In, values: [container=ubuntu-1, container=ubuntu-3]},
         {key: label, operator: NotIn, values: [container=ubuntu-3]}]}, process: {matchPaths: [{execname: apt}]}, action: Block`,
      ),
    ],
    steps: [denied(U1, 'apt --version'), passes(U3, 'apt --version')],
    alerts: [{ policy: 'in-not-in', severity: 5, action: 'Block', verdict: 'Denied', pod: U1 }],
    silent: [{ policy: 'in-not-in', pod: U3 }],
  },
  {
    number: 14,
    name: 'an expression excludes a pod',
    policies: [
      armor(
        'not-in',
        `severity: 5, selector: {matchExpressions: [{key: label, operator: NotIn, values: [container=ubuntu-1]}]}, process: {matchPaths: [{execname: apt}]}, action: Block`,
      ),
    ],
    steps: [passes(U1, 'apt --version'), denied(U3, 'apt --version')],
    alerts: [{ policy: 'not-in', severity: 5, action: 'Block', verdict: 'Denied', pod: U3 }],
    silent: [{ policy: 'not-in', pod: U1 }],
  },
  {
    number: 15,
    name: 'a program may have some arguments only',
    policies: [
      armor(
        'arguments',
        `severity: 5, ${of(U1)}, ${program('/usr/bin/python3.11', ', allowedArgs: ["-m", random]')}, action: Block`,
      ),
    ],
    // the program is there when its arguments are looked at: it is killed
    steps: [
      says(U1, 'python3 -m pydoc; echo "status $?"', /Killed|status 137/),
      passes(U1, 'python3 -m random'),
    ],
    alerts: [
      {
        policy: 'arguments',
        severity: 5,
        action: 'Block',
        verdict: 'Killed',
        resource: '/usr/bin/python3.11',
      },
    ],
  },
  {
    number: 16,
    name: 'a program is blocked on a terminal',
    policies: [
      armor('terminal', `severity: 5, ${of(U1)}, ${program('/bin/sleep', ', pts: false')}, action: Block`),
    ],
    steps: [denied(U1, 'sleep 0.1', true), passes(U1, 'sleep 0.1')],
    alerts: [{ policy: 'terminal', severity: 5, action: 'Block', verdict: 'Denied', resource: '/bin/sleep' }],
  },
  {
    number: 17,
    name: 'a file is blocked on a terminal',
    policies: [
      armor(
        'terminal-file',
        `severity: 5, ${of(U1)}, ${file('/etc/hostname', ', pts: false')}, action: Block`,
      ),
    ],
    steps: [denied(U1, 'cat /etc/hostname', true), passes(U1, 'cat /etc/hostname')],
    alerts: [
      { policy: 'terminal-file', severity: 5, action: 'Block', verdict: 'Denied', resource: '/etc/hostname' },
    ],
  },
  {
    number: 18,
    name: 'a program is allowed one file',
    policies: [
      armor(
        'allow-from',
        `severity: 10, ${of(U1)}, action: Allow, file: {matchPaths: [{path: /secret.txt${from('/bin/cat')}}], matchDirectories: [${['/bin/', '/usr/', '/lib/', '/lib64/', '/dev/', '/proc/'].map((dir) => `{dir: ${dir}, recursive: true}`).join(', ')}]}`,
      ),
    ],
    steps: [denied(U1, 'cat /etc/hostname'), passes(U1, 'cat /secret.txt'), denied(U1, 'head /secret.txt')],
    alerts: [{ policy: POSTURE, action: 'Block', verdict: 'Denied', resource: '/etc/hostname' }],
  },
  {
    number: 19,
    name: 'files below a directory are blocked',
    policies: [
      armor(
        'files',
        `severity: 9, ${of(U3)}, ${directory('/credentials/', ', recursive: true')}, action: Block`,
      ),
    ],
    steps: [denied(U3, 'cat /credentials/password')],
    alerts: [
      { policy: 'files', severity: 9, action: 'Block', verdict: 'Denied', resource: '/credentials/password' },
    ],
  },
  {
    number: 20,
    name: 'a file is audited to one program',
    policies: [
      armor('audit-from', `severity: 5, ${of(U1)}, ${file('/secret.txt', from('/bin/cat'))}, action: Audit`),
    ],
    steps: [passes(U1, 'cat /secret.txt')],
    alerts: [
      { policy: 'audit-from', severity: 5, action: 'Audit', verdict: 'Passed', resource: '/secret.txt' },
    ],
  },
  {
    number: 21,
    name: 'files below a directory are audited',
    policies: [
      armor(
        'audit-tree',
        `severity: 5, ${of(U3)}, ${directory('/credentials/', ', recursive: true')}, action: Audit`,
      ),
    ],
    steps: [passes(U3, 'cat /credentials/password'), passes(U3, 'cat /credentials/keys/priv.key')],
    alerts: [
      {
        policy: 'audit-tree',
        severity: 5,
        action: 'Audit',
        verdict: 'Passed',
        resource: '/credentials/password',
      },
      {
        policy: 'audit-tree',
        severity: 5,
        action: 'Audit',
        verdict: 'Passed',
        resource: '/credentials/keys/priv.key',
      },
    ],
  },
  {
    number: 22,
    name: 'a file is blocked to one program',
    policies: [
      armor('block-from', `severity: 7, ${of(U1)}, ${file('/secret.txt', from('/bin/cat'))}, action: Block`),
    ],
    steps: [denied(U1, 'cat /secret.txt'), passes(U1, 'head /secret.txt')],
    alerts: [
      { policy: 'block-from', severity: 7, action: 'Block', verdict: 'Denied', resource: '/secret.txt' },
    ],
  },
  {
    number: 23,
    name: 'a file is allowed to its owner, by one program',
    policies: [armor('allow-owner-from', allowOnly(`{path: ${SECRET}, ownerOnly: true${from(READWRITE)}}`))],
    steps: [denied(U1, tool('read', SECRET)), passes(U1, user1(tool('read', SECRET)))],
    alerts: [{ policy: 'allow-owner-from', action: 'Allow', verdict: 'Denied', resource: SECRET }],
  },
  {
    number: 24,
    name: 'a file is audited but to its owner, by one program',
    policies: [
      armor(
        'audit-owner-from',
        `severity: 7, ${of(U1)}, ${file(SECRET, `, ownerOnly: true${from(READWRITE)}`)}, action: Audit`,
      ),
    ],
    steps: [passes(U1, tool('read', SECRET)), passes(U1, user1(tool('read', SECRET)))],
    alerts: [
      { policy: 'audit-owner-from', severity: 7, action: 'Audit', verdict: 'Passed', resource: SECRET },
    ],
  },
  {
    number: 25,
    name: 'a directory is audited but for its owner’s reading',
    policies: [
      armor(
        'audit-owner',
        `severity: 7, ${of(U1)}, ${directory(`${HOME}/`, ', ownerOnly: true, readOnly: true')}, action: Audit`,
      ),
    ],
    steps: [passes(U1, user1(`cat ${SECRET}`)), passes(U1, `touch ${OTHER}`)],
    alerts: [{ policy: 'audit-owner', severity: 7, action: 'Audit', verdict: 'Passed', resource: OTHER }],
    silent: [{ policy: 'audit-owner', resource: SECRET }],
  },
  {
    number: 26,
    name: 'a file is blocked but to its owner, by one program',
    policies: [
      armor(
        'block-owner-from',
        `severity: 7, ${of(U1)}, ${file(SECRET, `, ownerOnly: true${from(READWRITE)}`)}, action: Block`,
      ),
    ],
    steps: [denied(U1, tool('read', SECRET)), passes(U1, user1(tool('read', SECRET)))],
    alerts: [
      { policy: 'block-owner-from', severity: 7, action: 'Block', verdict: 'Denied', resource: SECRET },
    ],
  },
  {
    number: 27,
    name: 'a pattern’s files are blocked but for their owner’s reading',
    policies: [
      armor(
        'pattern-owner',
        `severity: 5, ${of(U1)}, file: {matchPatterns: [{pattern: ${HOME}/secret_data*, ownerOnly: true, readOnly: true}]}, action: Block`,
      ),
    ],
    steps: [
      denied(U1, `cat ${SECRET}`),
      denied(U1, append(SECRET)),
      passes(U1, user1(`cat ${SECRET}`)),
      denied(U1, user1(append(SECRET))),
      passes(U1, `cat ${OTHER}`),
      passes(U1, append(OTHER)),
    ],
    alerts: [{ policy: 'pattern-owner', severity: 5, action: 'Block', verdict: 'Denied', resource: SECRET }],
  },
  {
    number: 28,
    name: 'all below a directory is blocked but for its owner’s reading',
    policies: [
      armor(
        'tree-owner',
        `severity: 5, ${of(U1)}, ${directory(`${HOME}/`, ', recursive: true, ownerOnly: true, readOnly: true')}, action: Block`,
      ),
    ],
    steps: [
      ...[SECRET, KEY].map((path) => denied(U1, `cat ${path}`)),
      ...[SECRET, KEY].map((path) => passes(U1, user1(`cat ${path}`))),
      ...[SECRET, KEY].map((path) => denied(U1, user1(append(path)))),
      denied(U1, append(KEY)),
    ],
    alerts: [{ policy: 'tree-owner', severity: 5, action: 'Block', verdict: 'Denied', resource: KEY }],
  },
  {
    number: 29,
    name: 'what is directly in a directory is blocked but for its owner’s reading',
    policies: [
      armor(
        'dir-owner',
        `severity: 5, ${of(U1)}, ${directory(`${HOME}/`, ', ownerOnly: true, readOnly: true')}, action: Block`,
      ),
    ],
    steps: [
      denied(U1, `cat ${SECRET}`),
      passes(U1, user1(`cat ${SECRET}`)),
      denied(U1, user1(append(SECRET))),
      passes(U1, `cat ${KEY}`),
      passes(U1, user1(append(KEY))),
    ],
    alerts: [{ policy: 'dir-owner', severity: 5, action: 'Block', verdict: 'Denied', resource: SECRET }],
  },
  {
    number: 30,
    name: 'a file is allowed to its owner for reading, by one program',
    policies: [
      armor(
        'allow-read-owner-from',
        allowOnly(`{path: ${SECRET}, ownerOnly: true, readOnly: true${from(READWRITE)}}`),
      ),
    ],
    steps: [
      denied(U1, tool('read', SECRET)),
      denied(U1, tool('write', SECRET)),
      passes(U1, user1(tool('read', SECRET))),
      denied(U1, user1(tool('write', SECRET))),
    ],
    alerts: [{ policy: 'allow-read-owner-from', verdict: 'Denied', resource: SECRET }],
  },
  {
    number: 31,
    name: 'a file is blocked but for its owner’s reading',
    policies: [
      armor(
        'block-owner',
        `severity: 10, ${of(U1)}, ${file(SECRET, ', ownerOnly: true, readOnly: true')}, action: Block`,
      ),
    ],
    steps: [
      denied(U1, user1(append(SECRET))),
      denied(U1, append(SECRET)),
      denied(U1, `cat ${SECRET}`),
      passes(U1, user1(`cat ${SECRET}`)),
    ],
    alerts: [{ policy: 'block-owner', severity: 10, action: 'Block', verdict: 'Denied', resource: SECRET }],
  },
  {
    number: 32,
    name: 'a file is blocked but for its owner’s reading, by one program',
    policies: [
      armor(
        'block-owner-tool',
        `severity: 10, ${of(U1)}, ${file(SECRET, `, ownerOnly: true, readOnly: true${from(READWRITE)}`)}, action: Block`,
      ),
    ],
    steps: [
      denied(U1, user1(tool('write', SECRET))),
      denied(U1, tool('write', SECRET)),
      denied(U1, tool('read', SECRET)),
      passes(U1, user1(tool('read', SECRET))),
    ],
    alerts: [
      { policy: 'block-owner-tool', severity: 10, action: 'Block', verdict: 'Denied', resource: SECRET },
    ],
  },
  {
    number: 33,
    name: 'a file is allowed to its owner for reading',
    policies: [armor('allow-read-owner', allowOnly(`{path: ${SECRET}, ownerOnly: true, readOnly: true}`))],
    steps: [
      denied(U1, `cat ${SECRET}`),
      passes(U1, user1(`cat ${SECRET}`)),
      denied(U1, user1(`cat ${OTHER}`)),
    ],
    alerts: [
      { policy: 'allow-read-owner', verdict: 'Denied', resource: SECRET },
      { policy: POSTURE, action: 'Block', verdict: 'Denied', resource: OTHER },
    ],
  },
  {
    number: 34,
    name: 'a file is allowed to its owner',
    policies: [armor('allow-all-owner', allowOnly(`{path: ${SECRET}, ownerOnly: true}`))],
    steps: [
      denied(U1, `cat ${SECRET}`),
      passes(U1, user1(`cat ${SECRET}`)),
      passes(U1, user1(append(SECRET))),
    ],
    alerts: [{ policy: 'allow-all-owner', verdict: 'Denied', resource: SECRET }],
  },
  {
    number: 35,
    name: 'a program may read a file and not write it',
    policies: [
      armor(
        'read-from',
        `severity: 10, ${of(U1)}, ${file(SECRET, `, readOnly: true${from(READWRITE)}`)}, action: Block`,
      ),
    ],
    steps: [
      passes(U1, tool('read', SECRET)),
      denied(U1, tool('write', SECRET)),
      passes(U1, tool('write', OTHER)),
    ],
    alerts: [{ policy: 'read-from', severity: 10, action: 'Block', verdict: 'Denied', resource: SECRET }],
  },
  {
    number: 36,
    name: 'a program is allowed to read one file',
    policies: [armor('allow-read-from', allowOnly(`{path: ${SECRET}, readOnly: true${from(READWRITE)}}`))],
    steps: [
      passes(U1, tool('read', SECRET)),
      denied(U1, tool('write', SECRET)),
      denied(U1, tool('read', OTHER)),
    ],
    alerts: [
      { policy: 'allow-read-from', verdict: 'Denied', resource: SECRET },
      { policy: POSTURE, action: 'Block', verdict: 'Denied', resource: OTHER },
    ],
  },
  {
    number: 37,
    name: 'a file may be read and not written',
    policies: [
      armor('read-only', `severity: 10, ${of(U1)}, ${file(SECRET, ', readOnly: true')}, action: Block`),
    ],
    steps: [denied(U1, append(SECRET)), passes(U1, `cat ${SECRET}`)],
    alerts: [{ policy: 'read-only', severity: 10, action: 'Block', verdict: 'Denied', resource: SECRET }],
  },
  {
    number: 38,
    name: 'writing in a directory is audited',
    policies: [
      armor(
        'audit-writes',
        `severity: 10, ${of(U1)}, ${directory('/dev/shm/', ', readOnly: true')}, action: Audit`,
      ),
    ],
    steps: [passes(U1, 'touch /dev/shm/new'), passes(U1, 'cat /dev/shm/new')],
    alerts: [
      { policy: 'audit-writes', severity: 10, action: 'Audit', verdict: 'Passed', resource: '/dev/shm/new' },
    ],
  },
  {
    number: 39,
    name: 'a pattern’s files are blocked',
    policies: [
      armor(
        'pattern',
        `severity: 5, ${of(U1)}, file: {matchPatterns: [{pattern: "/etc/*hado?"}]}, action: Block`,
      ),
    ],
    steps: [denied(U1, 'cat /etc/shadow'), denied(U1, 'cat /etc/gshadow'), passes(U1, 'cat /etc/passwd')],
    alerts: [
      { policy: 'pattern', severity: 5, action: 'Block', verdict: 'Denied', resource: '/etc/shadow' },
      { policy: 'pattern', severity: 5, action: 'Block', verdict: 'Denied', resource: '/etc/gshadow' },
    ],
  },
  {
    number: 40,
    name: 'the service account’s token is blocked',
    policies: [
      armor(
        'tokens',
        `severity: 8, ${of(U1)}, ${directory(`${TOKENS}/`, ', recursive: true')}, action: Block`,
      ),
    ],
    steps: [denied(U1, `cat ${TOKENS}/token`)],
    alerts: [
      {
        policy: 'tokens',
        severity: 8,
        action: 'Block',
        verdict: 'Denied',
        resource: /^\/run\/secrets\/kubernetes.io\/serviceaccount\/.*token$/,
      },
    ],
  },
  {
    number: 42,
    name: 'a file is allowed for reading',
    policies: [armor('allow-read', allowOnly(`{path: ${SECRET}, readOnly: true}`))],
    steps: [denied(U1, append(SECRET)), passes(U1, `cat ${SECRET}`)],
    alerts: [{ policy: 'allow-read', verdict: 'Denied', resource: SECRET }],
  },
];

/** A file, and what programs need to run at all. */
function allowOnly(rule: string): string {
  const needed = ['/bin/', '/usr/', '/lib/', '/lib64/', '/dev/', '/proc/'];
  const directories = needed.map((dir) => `{dir: ${dir}, recursive: true}`).join(', ');
  return `severity: 10, ${of(U1)}, action: Allow, file: {matchPaths: [${rule}, {path: ${READWRITE}}], matchDirectories: [${directories}]}`;
}
