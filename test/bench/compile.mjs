/**
 * How long policies take to compile, and how large the tables become. Needs `npm run build`; deterministic inputs.
 *
 *   node test/bench/compile.mjs [rules, default 10000]
 *
 * Prints the 100 sets of workloads that are reached by two of the 200 policies each, in a process that has compiled
 * nothing before, and then what it would be if one workload were reached by all.
 */
import { compile } from '../../dist/policy/compile.js';

const POSTURES = { file: 'block', network: 'block', capabilities: 'block' };
const TOOLS = (
  'apt apt-get bash busybox cat chmod chown cp crontab curl dash dd dig dnf docker dpkg env ftp gcc gdb git id insmod ' +
  'ip iptables jq kill kubectl ld ldd ln ls lsof make mkdir mknod modprobe mount mv nano nc ncat netcat nmap node nohup ' +
  'nsenter openssl passwd perl php ping pip pkexec ps python python3 rm rmmod route rpm rsync ruby scp sed sftp sh ss ' +
  'ssh strace su sudo systemctl tar tcpdump tee telnet tmux top touch umount unshare useradd vi vim wget whoami xargs yum zsh'
).split(' ');

const EXECNAMES =
  'apt apt-get bash busybox crontab curl dash gcc git kubectl nc ncat nmap perl pip pkexec python3 sh ssh su sudo tcpdump telnet wget'.split(
    ' ',
  );
const AT = { file: 'bench.yaml', line: 1, column: 1 };
const COMMON =
  '/bin /sbin /usr/bin /usr/sbin /usr/local/bin /etc /etc/ssl /etc/ssh /root /home /tmp /var/tmp /var/log /var/run /dev/shm /proc /sys /boot /lib /usr/lib'.split(
    ' ',
  );
const PATTERNS =
  '/tmp/**/*.sh /tmp/**/*.py /var/tmp/**/*.elf /home/*/.ssh/* /home/*/.aws/** /root/.*_history /**/id_rsa /**/*.pem /proc/*/mem /usr/lib/**/*.so.[0-9] /etc/{passwd,shadow,group}* /var/run/secrets/**/token'.split(
    ' ',
  );

/** A small generator of numbers that look random (T. Vigna's splitmix, 32 bits). */
function numbers(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x9e3779b9) | 0;
    let z = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) % below;
  };
}

/** Policy p is about application p / 2; a third of what it names is the machine's, the rest the application's own. */
function makePolicies(count, rulesEach) {
  const random = numbers(1);
  const pick = (list) => list[random(list.length)];
  const word = () => pick(['index', 'cache', 'state', 'token', 'plugin', 'model', 'queue', 'report']) + random(40);
  const makeRules = (app) => {
    const own = () => `/${pick(['opt', 'srv', 'var/lib', 'etc', 'usr/share'])}/app${app}`;
    const deep = () => `${own()}/${pick(['bin', 'lib', 'conf', 'data', 'run'])}`;
    const path = () =>
      pick([() => `/usr/bin/${pick(TOOLS)}`, () => `${deep()}/${word()}`, () => `${deep()}/${word()}/${word()}`])();
    const directory = () => ({
      kind: 'directory',
      dir: pick([() => `${pick(COMMON)}/`, () => `${deep()}/`, () => `${own()}/${word()}/`])(),
      recursive: random(3) > 0,
    });
    const pattern = () =>
      pick([
        () => pick(PATTERNS),
        () => `${own()}/**/*.${pick(['conf', 'yaml', 'key', 'so'])}`,
        () => `${deep()}/*.${pick(['log', 'txt', 'db'])}`,
        () => `${own()}/${word()}-[0-9]*/{run,tmp}/*`,
        () => `${deep()}/${word()}.so.?`,
      ])();
    const address = () => {
      const prefix = pick([8, 16, 24, 28, 32]);
      const bytes = [10, random(64), random(256), random(256)].map(
        (byte, i) => byte & (0xff00 >> Math.max(0, Math.min(8, prefix - i * 8))) & 0xff,
      );
      const from = pick([22, 53, 80, 443, 5432, 8000 + random(100)]);
      return {
        class: 'network',
        kind: 'address',
        direction: random(3) === 0 ? 'ingress' : 'egress',
        peers: [{ cidr: { bytes, prefix }, except: [] }],
        ports: random(3) === 0 ? [] : [{ protocol: 'TCP', from, to: from + random(3) }],
      };
    };
    const name = (match) => ({
      class: match.kind === 'execname' || random(5) < 2 ? 'process' : 'file',
      match,
      ownerOnly: random(5) === 0,
      readOnly: false,
      noTty: false,
    });
    const subject = () => {
      const dice = random(100);
      if (dice < 45) return name({ kind: 'path', path: path() });
      if (dice < 65) return name(directory());
      if (dice < 80) return name({ kind: 'pattern', pattern: pattern() });
      if (dice < 85) return name({ kind: 'execname', name: pick(EXECNAMES) });
      if (dice < 88) return { class: 'network', kind: 'protocol', protocol: pick(['tcp', 'udp', 'raw', 'icmp', 'all']) };
      if (dice < 90) return { class: 'capabilities', capability: random(41), name: 'cap' };
      return address();
    };
    return Array.from({ length: rulesEach }, (_, r) => ({
      id: `rules[${r}]`,
      at: AT,
      action: pick(['Allow', 'Allow', 'Audit', 'Block', 'Block', 'Block', 'Kill']),
      severity: 5,
      tags: [],
      message: '',
      sources: random(7) === 0 ? [{ kind: 'path', path: path() }] : [],
      ...subject(),
    }));
  };
  return Array.from({ length: count }, (_, p) => ({
    apiVersion: 'security.belay.dev/v1',
    kind: 'WorkloadPolicy',
    scope: 'namespace',
    namespace: 'bench',
    name: `policy-${p}`,
    at: AT,
    mode: 'Enforce',
    selector: { labels: new Map(), expressions: [], namespaces: [], containers: [] },
    rules: makeRules(p >> 1),
  }));
}

function measure(policies) {
  const begun = performance.now();
  const used = process.cpuUsage();
  const result = compile(policies, POSTURES);
  const milliseconds = performance.now() - begun;
  const { user, system } = process.cpuUsage(used);
  const cpu = (user + system) / 1000;
  if (!result.ok) throw new Error(result.diagnostics[0].message);
  return { milliseconds, cpu, stats: result.set.stats };
}

const MIB = 1 << 20;
const total = Number(process.argv[2] ?? 10_000);
const policies = makePolicies(200, Math.ceil(total / 200));

let milliseconds = 0;
let cpu = 0;
let bytes = 0;
for (let p = 0; p < policies.length; p += 2) {
  const one = measure(policies.slice(p, p + 2));
  milliseconds += one.milliseconds;
  cpu += one.cpu;
  bytes += one.stats.bytes;
}
const size = (of) => `${(of / MIB).toFixed(1)} MiB`;
const time = (of) => `${of.milliseconds.toFixed(0)} ms (${of.cpu.toFixed(0)} of processor)`;
console.log(`${total} rules, 200 policies, 100 workloads, cold: ${time({ milliseconds, cpu })}, ${size(bytes)}`);

const whole = measure(policies);
console.log(`all of them in one workload's set: ${time(whole)}, ${size(whole.stats.bytes)}`);
console.log(whole.stats);
console.log(`again: ${time(measure(policies))}`);
