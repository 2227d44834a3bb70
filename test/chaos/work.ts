import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { policy, quote, type Shell, T } from '../kernel/harness.js';
import type { Random } from './random.js';

export const SECRET = `${T}/secret`;
export const FREE = `${T}/free`;
export const BAD = `${T}/bad`;
export const GOOD = `${T}/good`;
/** What is created below it is denied. */
export const MANY = `${T}/many/`;
const STOP = `${T}/stop`;
const LOGS = `${T}/logs`;

interface Kind {
  /** By every version of the policies; the others are allowed by every version. */
  readonly denied: boolean;
  /** At once. */
  readonly times: number;
  readonly words: readonly string[];
}

/** What is tried all the time. */
const KINDS: Readonly<Record<string, Kind>> = {
  read: { denied: true, times: 40, words: ['read', SECRET] },
  write: { denied: true, times: 40, words: ['write', SECRET] },
  create: { denied: true, times: 20, words: ['create-counted', MANY] },
  exec: { denied: true, times: 4, words: ['exec', BAD, 'read', FREE] },
  connect: { denied: true, times: 20, words: ['connect', '127.0.0.9', '9'] },
  'read-free': { denied: false, times: 40, words: ['read', FREE] },
  'write-free': { denied: false, times: 40, words: ['write', FREE] },
  'exec-good': { denied: false, times: 4, words: ['exec', GOOD, 'read', FREE] },
  'connect-near': { denied: false, times: 20, words: ['connect', '127.0.0.1', '9'] },
};

const file = `file:
  matchPaths: [{path: ${SECRET}}]
  matchDirectories: [{dir: ${MANY}, recursive: true}]`;
const program = `process: {matchPaths: [{path: ${BAD}}]}`;
const address = 'network: {egress: [{to: [{cidr: 127.0.0.9/32}]}]}';

/** Which all deny and allow the same of what is tried; the first is the one to begin and end with. */
const VERSIONS: readonly ((random: Random) => readonly string[])[] = [
  () => [file, program, address],
  (random) => {
    const noise = Array.from({ length: 1 + random.below(60) }, () => `{path: /n/${random.below(1e9)}}`);
    return [file.replace('}]', `}, ${noise.join(', ')}]`), program, address];
  },
  () => [
    `file:\n  matchPatterns: [{pattern: "${T}/sec*t"}, {pattern: "${MANY}**"}]`,
    `process: {matchPatterns: [{pattern: "${T}/b?d"}]}`,
    'network: {egress: [{to: [{cidr: 127.0.0.8/29}]}]}',
  ],
  // denied by the posture
  () => [file, program, 'network: {egress: [{action: Allow, to: [{cidr: 127.0.0.0/29}]}]}'],
  // programs that are attached only while such rules are there
  () => [file, program, address, 'syscalls: {matchSyscalls: [{syscall: [swapon]}]}'],
  () => [file, program, address.replace('egress', 'matchDNSQueries: [{domain: a.example}], egress')],
  () => [file, program, address, 'capabilities: {matchCapabilities: [{capability: sys_boot}]}'],
];

export const versions = VERSIONS.length;
export const version = (number: number, random: Random) =>
  policy('chaos', VERSIONS[number](random).join('\n'));

/** What should change nothing, beside a good policy. */
export const BESIDE: Readonly<Record<string, string>> = {
  invalid: policy('invalid', `file: {matchPath: [{path: ${FREE}}]}`),
  'no YAML': 'kind: [}\n\t"',
  exploding: policy('exploding', `file:\n  matchPatterns:\n  - {pattern: "/**/*a${'?'.repeat(30)}"}`),
  'of others': policy('others', `file: {matchPaths: [{path: ${FREE}}]}`).replace('app: web', 'app: other'),
  'of other things': policy('more', `file: {matchPaths: [{path: ${T}/other}]}`),
};

/** How often what is denied was tried, by workload. */
export class Tally {
  readonly #tried = new Map<string, number>();
  readonly wrong: string[] = [];
  readonly #say: (what: string) => void;

  constructor(say: (what: string) => void) {
    this.#say = say;
  }

  /** @returns how often, since the beginning */
  tried(pod: string): number {
    return this.#tried.get(pod) ?? 0;
  }

  get pods(): readonly string[] {
    return [...this.#tried.keys()];
  }

  /** @param said how many succeeded, as act says it */
  take(pod: string, when: string, kind: string, said: string, times = KINDS[kind].times): void {
    const { denied } = KINDS[kind];
    if (said !== String(denied ? 0 : times))
      this.note(`${when}: ${pod}: ${kind}: of ${times} succeeded: ${said}`);
    if (denied) this.#tried.set(pod, this.tried(pod) + times);
  }

  note(wrong: string): void {
    this.#say(`WRONG: ${wrong}`);
    this.wrong.push(wrong);
  }

  /** Everything, in a shell of the workload. */
  async all(pod: string, shell: Shell, when: () => string, of = Object.keys(KINDS)): Promise<void> {
    for (const kind of of) await this.one(pod, shell, when, kind);
  }

  async one(pod: string, shell: Shell, when: () => string, kind: string, times = KINDS[kind].times) {
    this.take(pod, when(), kind, await shell.do('-n', String(times), ...KINDS[kind].words), times);
  }
}

/** Tries everything, over and over, until `stop`; what came of it is in a file that grows. */
export class Worker {
  readonly pod: string;
  readonly #tally: Tally;
  readonly #shell: Shell;
  #running: Promise<string> | undefined;
  #read = 0;

  constructor(pod: string, shell: Shell, tally: Tally) {
    this.pod = pod;
    this.#shell = shell;
    this.#tally = tally;
  }

  static prepare(): void {
    rmSync(STOP, { force: true });
    mkdirSync(LOGS, { recursive: true });
  }

  static stopAll(): void {
    writeFileSync(STOP, '');
  }

  start(): void {
    const log = join(LOGS, this.pod);
    appendFileSync(log, '');
    const each = Object.entries(KINDS).map(([kind, { times, words }]) => {
      const act = [this.#shell.act, '-n', String(times), ...words].map(quote).join(' ');
      return `read -r up _ < /proc/uptime; echo "$up ${kind} $(${act} 2>&1)" >> ${log}`;
    });
    const script = `while [ ! -e ${STOP} ]; do\n${each.join('\n')}\nsleep 0.5\ndone`;
    this.#running = this.#shell.run(script, 24 * 3600_000);
  }

  /** Looks at what has been done since. */
  look(): void {
    const log = join(LOGS, this.pod);
    if (!existsSync(log)) return;
    const text = readFileSync(log, 'utf8');
    const end = text.lastIndexOf('\n') + 1;
    const lines = text.slice(this.#read, end).split('\n').slice(0, -1);
    this.#read = end;
    for (const line of lines) {
      const [up, kind, ...said] = line.split(' ');
      this.#tally.take(this.pod, `${up} s after boot`, kind, said.join(' '));
    }
  }

  async ended(): Promise<void> {
    const said = await this.#running;
    this.look();
    if (said) this.#tally.note(`${this.pod} said: ${said}`);
  }
}
