import { armor, type Case, denied, POSTURE, passes, says, TOKENS } from './case.js';

const ARPING = 'arping -c 1 -i veth0 10.98.0.1';
/** Runs a program that has no name, only a file descriptor. */
const FILELESS = `python3 -c 'import os; f = os.memfd_create("x"); os.write(f, open("/bin/true", "rb").read()); os.execve("/proc/self/fd/%d" % f, ["true"], {})'`;

const of = (app: string) => `selector: {matchLabels: {app: ${app}}}`;
const file = (path: string, more = '') => `file: {matchPaths: [{path: ${path}${more}}]}`;
const directory = (dir: string, more = '') => `file: {matchDirectories: [{dir: ${dir}${more}}]}`;
const program = (path: string, more = '') => `process: {matchPaths: [{path: ${path}${more}}]}`;
const fromCat = ', fromSource: [{path: /bin/cat}]';
const protocol = (name: string, more = '') => `network: {matchProtocols: [{protocol: ${name}${more}}]}`;

export const SMOKE: readonly Case[] = [
  {
    name: 'package managers are blocked',
    policies: [
      armor(
        'packages',
        `severity: 3, ${of('wordpress')}, process: {matchPaths: [{path: /usr/bin/apt}, {path: /usr/bin/apt-get}]}, action: Block`,
      ),
    ],
    steps: [denied('wordpress', 'apt update'), denied('wordpress', 'apt-get update')],
    alerts: [
      { policy: 'packages', severity: 3, action: 'Block', verdict: 'Denied', resource: '/usr/bin/apt' },
      { policy: 'packages', severity: 3, action: 'Block', verdict: 'Denied', resource: '/usr/bin/apt-get' },
    ],
  },
  {
    name: 'a configuration file is blocked to cat, by whatever path',
    policies: [
      armor(
        'config',
        `severity: 10, ${of('wordpress')}, ${file('/var/www/html/wp-config.php', fromCat)}, action: Block`,
      ),
    ],
    steps: [
      denied('wordpress', 'cat /var/www/html/wp-config.php'),
      denied('wordpress', 'cd /var/www/html && cat wp-config.php'),
      denied('wordpress', 'cd /var/www && cat ./html/../../www/html/wp-config.php'),
    ],
    alerts: [
      {
        policy: 'config',
        severity: 10,
        action: 'Block',
        verdict: 'Denied',
        resource: '/var/www/html/wp-config.php',
      },
    ],
  },
  {
    name: 'the service account’s directory is blocked',
    policies: [
      armor(
        'account',
        `severity: 7, ${of('wordpress')}, ${directory(`${TOKENS}/`, ', recursive: true')}, action: Block`,
      ),
    ],
    steps: [denied('wordpress', `cat ${TOKENS}/token`), denied('wordpress', `cat /var${TOKENS}/token`)],
    alerts: [{ policy: 'account', severity: 7, action: 'Block', verdict: 'Denied' }],
  },
  {
    name: 'a directory is blocked to all but one program, and all else allowed',
    policies: [
      armor(
        'lenient',
        `severity: 7, ${of('wordpress')}, file: {matchDirectories: [
          {dir: ${TOKENS}/, recursive: true, action: Block}, {dir: /, recursive: true, action: Allow},
          {dir: ${TOKENS}/, recursive: true, action: Allow${fromCat}}]}`,
      ),
    ],
    steps: [
      denied('wordpress', `head ${TOKENS}/token`),
      passes('wordpress', `cat ${TOKENS}/token`),
      passes('wordpress', 'head /etc/passwd'),
      passes('wordpress', 'cat /etc/passwd'),
    ],
    alerts: [{ policy: 'lenient', severity: 7, action: 'Block', verdict: 'Denied' }],
    silent: [
      { policy: 'lenient', verdict: 'Passed' },
      { policy: POSTURE, pod: 'wordpress', resource: '/etc/passwd' },
    ],
  },
  {
    name: 'the database’s directory is audited',
    policies: [
      armor(
        'database',
        `severity: 5, ${of('mysql')}, ${directory('/var/lib/mysql/', ', recursive: true')}, action: Audit`,
      ),
    ],
    steps: [passes('mysql', 'touch /var/lib/mysql/test')],
    alerts: [
      {
        policy: 'database',
        severity: 5,
        action: 'Audit',
        verdict: 'Passed',
        resource: '/var/lib/mysql/test',
      },
    ],
  },
  {
    name: 'two policies hold in one pod',
    policies: [
      armor('one', `severity: 5, ${of('wordpress')}, ${file('/etc/passwd', fromCat)}, action: Block`),
      armor('two', `severity: 5, ${of('wordpress')}, ${file('/etc/shadow', fromCat)}, action: Block`),
    ],
    steps: [denied('wordpress', 'cat /etc/passwd'), denied('wordpress', 'cat /etc/shadow')],
    alerts: [
      { policy: 'one', action: 'Block', verdict: 'Denied', resource: '/etc/passwd' },
      { policy: 'two', action: 'Block', verdict: 'Denied', resource: '/etc/shadow' },
    ],
  },
  {
    name: 'writing in shared memory is blocked',
    policies: [
      armor(
        'shm',
        `severity: 5, ${of('wordpress')}, ${directory('/dev/shm/', ', readOnly: true, recursive: true')}, action: Block`,
      ),
    ],
    steps: [denied('wordpress', 'touch /dev/shm/new')],
    alerts: [{ policy: 'shm', severity: 5, action: 'Block', verdict: 'Denied', resource: '/dev/shm/new' }],
  },
];

export const PRESETS: readonly Case[] = [
  {
    name: 'a program without a file is audited',
    policies: [armor('fileless-audit', `${of('wordpress')}, presets: [{name: filelessExec, action: Audit}]`)],
    steps: [passes('wordpress', FILELESS)],
    alerts: [{ policy: 'fileless-audit', action: 'Audit', verdict: 'Passed' }],
  },
  {
    name: 'a program without a file is blocked',
    policies: [armor('fileless', `${of('wordpress')}, presets: [{name: filelessExec, action: Block}]`)],
    steps: [denied('wordpress', FILELESS)],
    alerts: [{ policy: 'fileless', action: 'Block', verdict: 'Denied' }],
  },
];

export const CONTAINERS: readonly Case[] = (
  [
    ['a list of one', '"[container-1]"', true],
    ['empty brackets', '"[]"', false],
    ['nothing', '""', false],
    ['a list with stray commas', '"[,container-1,,]"', true],
  ] as const
).map(([what, value, one]): Case => {
  const run = 'apt --version';
  const in2 = 'container-2';
  return {
    name: `the containers are ${what}`,
    policies: [
      armor(
        'containers',
        `severity: 5, selector: {matchLabels: {app: pair, kubearmor.io/container.name: ${value}}}, ${program('/usr/bin/apt')}, action: Block`,
      ),
    ],
    steps: [denied('container-1', run), one ? passes(in2, run) : denied(in2, run)],
    alerts: [{ policy: 'containers', severity: 5, pod: 'pair', container: 'container-1', verdict: 'Denied' }],
  };
});

export const PRIVILEGED: readonly Case[] = ['all-capabilities', 'privileged'].map((pod) => ({
  name: `a program is blocked in a pod: ${pod}`,
  policies: [armor('ls', `severity: 5, ${of(pod)}, ${program('/bin/ls')}, action: Block`)],
  steps: [
    denied(pod, 'ls'),
    // mounting is not blocked by default
    passes(pod, 'mkdir -p /mnt && mount -t tmpfs tmpfs /mnt && umount /mnt'),
  ],
  alerts: [{ policy: 'ls', severity: 5, action: 'Block', verdict: 'Denied', pod }],
  silent: [{ policy: POSTURE, pod }],
}));

export const NETWORK: readonly Case[] = [
  {
    name: 'icmp is audited',
    policies: [armor('icmp', `severity: 8, ${of('wordpress')}, ${protocol('icmp')}, action: Audit`)],
    steps: [passes('wordpress', 'ping -c 1 127.0.0.1')],
    alerts: [{ policy: 'icmp', severity: 8, action: 'Audit', verdict: 'Passed' }],
  },
  {
    name: 'raw sockets are audited',
    policies: [armor('raw-audit', `severity: 8, ${of('wordpress')}, ${protocol('raw')}, action: Audit`)],
    steps: [says('wordpress', ARPING, /1 packets transmitted/)],
    alerts: [{ policy: 'raw-audit', severity: 8, action: 'Audit', verdict: 'Passed' }],
  },
  {
    name: 'raw sockets are blocked',
    policies: [armor('raw', `severity: 8, ${of('wordpress')}, ${protocol('raw')}, action: Block`)],
    steps: [says('wordpress', `${ARPING} || echo "status $?"`, /status 1/)],
    alerts: [{ policy: 'raw', severity: 8, action: 'Block', verdict: 'Denied' }],
  },
  {
    name: 'every protocol is blocked',
    policies: [armor('all', `severity: 8, ${of('wordpress')}, ${protocol('all')}, action: Block`)],
    steps: [says('wordpress', 'ping -c 1 127.0.0.1 || echo "status $?"', /status 2/)],
    alerts: [{ policy: 'all', severity: 8, action: 'Block', verdict: 'Denied' }],
  },
  {
    name: 'nothing is blocked where no policy selects',
    policies: [armor('elsewhere', `${of('nobody')}, ${protocol('all')}, action: Block`)],
    steps: [says('wordpress', 'curl -s --max-time 20 http://google.com/', /It works/)],
  },
];

const GOOGLE = `network: {matchDNSQueries: [{domain: google.com}]}`;

export const DNS: readonly Case[] = ['google.com', 'www.google.com'].map((name) => ({
  name: `a domain is blocked, asked for as ${name}`,
  policies: [armor('dns', `severity: 10, ${of('wordpress')}, ${GOOGLE}, action: Block`)],
  steps: [
    says('wordpress', 'curl -s --max-time 20 http://duckduckgo.com/', /It works/),
    says('wordpress', `curl -sS --max-time 20 http://${name}/`, /Could not resolve/),
  ],
  alerts: [{ policy: 'dns', severity: 10, action: 'Block', verdict: 'Denied', resource: name }],
}));

/** tests/nonk8s_env/ksp: a container that no pod has, by its name. */
export const DOCKER: readonly Case[] = (
  [
    ['a file', file('/etc/passwd'), 'cat /etc/passwd', '/etc/passwd'],
    [
      'programs of a directory',
      'process: {matchDirectories: [{dir: /usr/bin/, recursive: true}]}',
      'whoami',
      '/usr/bin/whoami',
    ],
    [
      'tcp, from one program',
      protocol('tcp', ', fromSource: [{path: /usr/bin/curl}]'),
      'curl -s --max-time 20 http://127.0.0.1/',
      /^tcp /,
    ],
    ['files of a pattern', 'file: {matchPatterns: [{pattern: /tmp/*}]}', 'touch /tmp/made', '/tmp/made'],
    [
      'programs of a pattern',
      'process: {matchPatterns: [{pattern: /usr/bin/apt*}]}',
      'apt --version',
      '/usr/bin/apt',
    ],
  ] as const
).map(([what, rules, run, resource]) => ({
  name: `what is audited without Kubernetes: ${what}`,
  policies: [
    armor(
      'docker',
      `severity: 5, selector: {matchLabels: {kubearmor.io/container.name: wordpress}}, ${rules}, action: Audit`,
    ),
  ],
  steps: [passes('wordpress', run)],
  alerts: [{ policy: 'docker', severity: 5, action: 'Audit', verdict: 'Passed', resource }],
}));

/** With the posture of the network block. */
export const ONLY_CURL: Case = {
  name: 'only curl may use tcp',
  policies: [
    armor(
      'tcp',
      `severity: 8, ${of('wordpress')}, ${protocol('tcp', ', fromSource: [{path: /usr/bin/curl}]')}, action: Allow`,
    ),
  ],
  steps: [
    says('wordpress', 'curl -s --max-time 20 http://127.0.0.1/', /It works/),
    says('wordpress', 'curl -sS --max-time 20 http://google.com/', /Could not resolve/),
  ],
  alerts: [{ policy: POSTURE, action: 'Block', verdict: 'Denied', pod: 'wordpress', resource: /^udp / }],
};

const SERVED = ['/usr/', '/lib/', '/lib64/', '/bin/', '/sbin/', '/dev/', '/proc/', '/var/www/'];

/** With the posture of files block. */
export const ONLY_ITS_FILES: Case = {
  name: 'a web server may open its files and no others',
  policies: [
    armor(
      'served',
      `severity: 4, ${of('mysql')}, action: Allow, file: {matchPaths: [{path: /etc/passwd}], matchDirectories: [${SERVED.map((dir) => `{dir: ${dir}, recursive: true}`).join(', ')}]}`,
    ),
  ],
  steps: [
    denied('mysql', 'cat /etc/shadow'),
    says(
      'mysql',
      '(httpd httpd -f -p 8080 -h /var/www/html > /dev/null 2>&1 &); for _ in {1..50}; do curl -s http://127.0.0.1:8080/index.html && break; done',
      /It works/,
    ),
  ],
  alerts: [{ policy: POSTURE, action: 'Block', verdict: 'Denied', pod: 'mysql', resource: '/etc/shadow' }],
};

const ofCluster = (name: string, expressions: string, what: string) =>
  armor(
    name,
    `severity: 8, selector: {matchExpressions: [${expressions}]}, ${what}, action: Block`,
    'KubeArmorClusterPolicy',
  );
const namespaces = (operator: 'In' | 'NotIn', ...names: readonly string[]) =>
  `{key: namespace, operator: ${operator}, values: [${names.join(', ')}]}`;
const labels = (operator: 'In' | 'NotIn', value: string) =>
  `{key: label, operator: ${operator}, values: [${value}]}`;
const APT = 'apt --version';
const READ = 'cat /etc/passwd';
const apt = program('/usr/bin/apt');
const passwd = file('/etc/passwd', fromCat);

/** In the namespaces nginx1 and nginx2, whose containers are `nginx1-nginx`, … */
export const NAMESPACES: readonly Case[] = [
  {
    name: 'programs, in a namespace that is named',
    policies: [ofCluster('in', namespaces('In', 'nginx1'), apt)],
    steps: [denied('nginx1-nginx', APT), passes('nginx2-nginx', APT)],
    alerts: [{ policy: 'in', severity: 8, action: 'Block', verdict: 'Denied' }],
  },
  {
    name: 'files, in a namespace that is named',
    policies: [ofCluster('in-file', namespaces('In', 'nginx2'), passwd)],
    steps: [passes('nginx1-nginx', READ), denied('nginx2-nginx', READ)],
    alerts: [{ policy: 'in-file', severity: 8, verdict: 'Denied', resource: '/etc/passwd' }],
  },
  {
    name: 'programs, in all but a namespace',
    policies: [ofCluster('not-in', namespaces('NotIn', 'nginx1'), apt)],
    steps: [passes('nginx1-nginx', APT), denied('nginx2-nginx', APT)],
  },
  {
    name: 'files, in all but a namespace',
    policies: [ofCluster('not-in-file', namespaces('NotIn', 'nginx2'), passwd)],
    steps: [denied('nginx1-nginx', READ), passes('nginx2-nginx', READ)],
  },
  {
    name: 'a label in a namespace',
    policies: [ofCluster('label', `${namespaces('In', 'nginx1')}, ${labels('In', 'app=nginx')}`, apt)],
    steps: [denied('nginx1-nginx', APT), passes('nginx1-debian', APT), passes('nginx2-nginx', APT)],
  },
  {
    name: 'all but a label in all but a namespace',
    policies: [
      ofCluster('not-label', `${namespaces('NotIn', 'nginx2')}, ${labels('NotIn', 'app=nginx')}`, apt),
    ],
    steps: [passes('nginx1-nginx', APT), denied('nginx1-debian', APT), passes('nginx2-nginx', APT)],
  },
];
