import type { SinkSettings } from '../sink/settings.js';
import { VISIBILITY_FORM } from '../workload/visibility.js';

/**
 * What `belay agent` can be told, each setting described here and nowhere else: flags and variables, the file's reader, the JSON
 * schema of the chart's `config` and the text of `belay agent --help` (`config.ts`) come from this.
 */

export interface Setting {
  /** What it is, for the help text and the chart. */
  readonly about: string;
  /** The value in the help text, e.g. `<dir>`; a flag has none. */
  readonly value?: string;
  readonly choices?: readonly string[];
  readonly flag?: true;
  /** What a text must look like, all of it, and how to say so. */
  readonly form?: RegExp;
  readonly advice?: string;
  /** It is a whole number within these bounds. */
  readonly integer?: { readonly least: number; readonly most: number };
  readonly default?: string | boolean | number;
  /** Where the default comes from, if it is not written here. */
  readonly defaultAbout?: string;
  /** A new value in the file takes effect while the agent runs. */
  readonly live?: true;
  /** A list, which only the file can hold: of sinks, or of expressions. */
  readonly list?: 'sinks' | 'expressions';
}

const POSTURES = ['audit', 'block'] as const;
const PORT = '(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})';
const ADDRESS = new RegExp(`^(\\[[0-9A-Fa-f:]+\\]|[^\\s:\\[\\]]*):${PORT}$`);
const SOCKET = /^\/[^\0]{0,105}[^\0/]$/;

const SETTINGS = {
  policies: { value: '<dir>', about: 'directory of policy files; changes take effect at once' },
  workloads: { value: '<file>', about: 'which containers or cgroups are which workloads (YAML)' },
  kubernetes: {
    flag: true,
    about: 'take pods, namespaces and policies from the API server',
    default: false,
  },
  node: {
    value: '<name>',
    about: 'name of this node in the cluster',
    form: /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/,
    advice: 'lower-case letters, digits, "-" and "." (at most 253)',
    defaultAbout: 'NODE_NAME of the environment, else the host name',
  },
  kubeconfig: {
    value: '<file>',
    about: 'how to reach the API server',
    defaultAbout: "the pod's service account",
  },
  criSocket: {
    value: '<path>',
    about: "the container runtime's CRI socket",
    form: SOCKET,
    advice: 'the absolute path of a socket, of at most 107 bytes',
    defaultAbout: "containerd's or CRI-O's, whichever is there",
  },
  hostPolicies: {
    flag: true,
    about: 'enforce HostPolicy on the processes of the node itself',
    default: true,
  },
  clusterName: { value: '<name>', about: "name of the cluster in events' records", default: 'default' },
  output: {
    value: '<file>',
    about: 'where events go, one JSON object a line; - is standard output',
    default: '-',
  },
  sinks: {
    list: 'sinks',
    about: 'where else events go, each with a name, a type and a format; see README.md',
  },
  spool: {
    value: '<dir>',
    about: 'directory where events wait for sinks; in a cluster also the last good versions of policies',
    default: '/var/lib/belay/spool',
  },
  redact: {
    list: 'expressions',
    about: 'RE2 expressions; what they match in arguments, or what their groups do, is in no event',
  },
  visibility: {
    value: '<kinds>',
    about:
      'what is also told of workloads although no rule asks for it: process, file, network and capabilities, by commas; the annotation belay-visibility of a pod or namespace comes first',
    form: VISIBILITY_FORM,
    advice: 'none, or some of process, file, network and capabilities, by commas',
    default: 'none',
    live: true,
  },
  alertThrottling: {
    flag: true,
    about:
      'of a container that has more than maxAlertPerSec alerts in a second, alerts are only counted for throttleSec seconds',
    default: false,
    live: true,
  },
  maxAlertPerSec: {
    value: '<number>',
    about: 'alerts of a container that are told of in a second, repeats being as many, with alertThrottling',
    integer: { least: 1, most: 1_000_000 },
    default: 10,
    live: true,
  },
  throttleSec: {
    value: '<number>',
    about: 'for how many seconds they are only counted once there have been more',
    integer: { least: 1, most: 86_400 },
    default: 30,
    live: true,
  },
  dropResourceFromProcessLogs: {
    flag: true,
    about: "KubeArmor's logs of processes have no Resource, which is the command with its arguments",
    default: false,
    live: true,
  },
  pin: {
    value: '<dir>',
    about: 'directory on a bpffs (/sys/fs/bpf/…) where enforcement stays when the agent ends',
    defaultAbout: 'enforcement ends with the agent',
  },
  readyFile: { value: '<path>', about: 'file that is written once everything enforces' },
  metricsAddress: {
    value: '<address>',
    about: 'host:port of /metrics, /healthz and /readyz; :9095 is every address',
    form: ADDRESS,
    advice: 'host:port, [IPv6 address]:port or :port',
    defaultAbout: 'not served',
  },
  socket: {
    value: '<path>',
    about: 'unix socket for belay events, top, tree and sysdump, and whoever speaks gRPC or HTTP there',
    form: SOCKET,
    advice: 'the absolute path of a socket, of at most 107 bytes',
    default: '/run/belay/belay.sock',
  },
  socketGroup: {
    value: '<number>',
    about: 'group whose members may use the socket, and see everything, besides root',
    form: /^[0-9]{1,9}$/,
    advice: "a group's number",
    defaultAbout: 'only root',
  },
  listenAddress: {
    value: '<address>',
    about:
      "host:port of gRPC (KubeArmor's clients expect port 32767) and HTTP streams; other than on loopback only with TLS",
    form: ADDRESS,
    advice: 'host:port, [IPv6 address]:port or :port',
    defaultAbout: 'not served',
  },
  tlsCertificate: { value: '<file>', about: "listenAddress's certificate (PEM); taken anew when it changes" },
  tlsKey: { value: '<file>', about: "the certificate's key (PEM)" },
  tlsClientCa: {
    value: '<file>',
    about:
      'who signs the certificates of clients (PEM); in a cluster they see what the API server lets their names see',
  },
  tokenAudience: {
    value: '<name>',
    about:
      "clients may show the API server's tokens for this audience; they see namespaces where they may watch events.security.belay.dev",
  },
  oidcIssuer: {
    value: '<url>',
    about:
      'clients may show tokens of this OpenID Connect issuer; they see the namespaces in the claim "namespaces" (* is all)',
    form: /^https:\/\/[^\s?#]+$/,
    advice: 'the URL of an issuer, https://…',
  },
  oidcAudience: { value: '<name>', about: "what the issuer's tokens must be for" },
  filePosture: {
    choices: POSTURES,
    about: 'what happens to files and programs that no rule of an allow-list matches',
    default: 'audit',
    live: true,
  },
  networkPosture: {
    choices: POSTURES,
    about: 'what happens to sockets and addresses that no rule of an allow-list matches',
    default: 'audit',
    live: true,
  },
  capabilitiesPosture: {
    choices: POSTURES,
    about: 'what happens to capabilities that no rule of an allow-list matches',
    default: 'audit',
    live: true,
  },
  unknownPosture: {
    choices: POSTURES,
    about: 'what happens to programs in pods that the agent has not heard of yet',
    default: 'audit',
    live: true,
  },
  logLevel: {
    choices: ['debug', 'info', 'warn', 'error'],
    about: 'how much goes to standard error',
    default: 'info',
    live: true,
  },
} as const satisfies Record<string, Setting>;

type Table = typeof SETTINGS;
type ValueOf<S> = S extends { readonly list: 'sinks' }
  ? readonly SinkSettings[]
  : S extends { readonly list: 'expressions' }
    ? readonly string[]
    : S extends { readonly flag: true }
      ? boolean
      : S extends { readonly integer: unknown }
        ? number
        : S extends { readonly choices: readonly (infer Choice)[] }
          ? Choice
          : string;

export type SettingName = keyof Table;

/** What the agent runs with. A setting without a default that nobody gave is undefined. */
export type Settings = {
  readonly [K in SettingName]:
    | ValueOf<Table[K]>
    | (K extends 'node'
        ? never
        : Table[K] extends { readonly default: unknown } | { readonly list: unknown }
          ? never
          : undefined);
};

export const NAMES = Object.keys(SETTINGS) as SettingName[];
export const setting = (name: SettingName): Setting => SETTINGS[name];

/** The settings whose new values in the file take effect while the agent runs. */
export const LIVE_SETTINGS: readonly SettingName[] = NAMES.filter((name) => setting(name).live);
