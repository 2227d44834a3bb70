import { flag, integer, list, map, object, text, type Validation } from './shape.js';
import {
  ACTIONS,
  CAPABILITY_SPELLINGS,
  ESCAPES,
  OPERATORS,
  PAIR_OPERATORS,
  PRESET_ACTIONS,
  PRESETS,
  PROTOCOL_SPELLINGS,
  TRANSPORT_SPELLINGS,
} from './words.js';

/**
 * The shapes of rules and of what they are made of. Lists are bounded so that the cost of the CEL conditions is: a
 * condition that stands on the programs of a rule's source counts MAX_RULES × MAX_SOURCES times. What can be left out
 * because it is inherited (rule, section, spec) has no default here.
 */

const MAX_RULES = 1000;
const MAX_SOURCES = 32;
const MAX_PEERS = 128;
const MAX_PORTS = 64;
/** Of the kernel, in bytes; here in characters, which are never more. */
export const MAX_PATH = 4096;

/** Patterns that the readers ask too. */
export const CONTAINER_GLOB = '^[A-Za-z0-9_.*?-]+$';
export const SYSCALL_NAME = '^[a-z_][a-z0-9_]{0,40}$';
const LABEL = '[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?';
export const DOMAIN_NAME = `^(\\*\\.)?(${LABEL}\\.)*${LABEL}\\.?$`;

/** The fields that may stand on a rule, its section and the spec; the closest wins, field by field. */
export const COMMON = {
  action: text(
    'What happens when a rule matches. Allow makes its class (process, file, network, capabilities) an allow-list: what no rule matches gets the default posture. Audit reports; Block denies with "Permission denied"; Kill and KillContainer deny and end the process, or all of the container. Inherited from the section, then the spec; Block if nobody says.',
    { enum: ACTIONS },
  ),
  severity: integer(
    'How grave a match is, from 1 to 10. Inherited from the section, then the spec; 1 if nobody says.',
    1,
    10,
  ),
  tags: list(
    'Free words that go into the event; ATT&CK ids such as MITRE_T1059 are recognised. Inherited from the section, then the spec.',
    text('A tag.', { maxLength: 256 }),
    64,
  ),
  message: text('What the event says. Inherited from the section, then the spec.', { maxLength: 1024 }),
};

const ABSOLUTE: Validation = {
  rule: "self.startsWith('/')",
  message: 'is not absolute; write an absolute path, beginning with "/"',
};

const PATH = text(
  'An absolute path without a slash at its end, as the kernel resolves it: a symbolic link never matches.',
  {
    minLength: 1,
    maxLength: MAX_PATH,
    pattern: '^/[^\\x00]*[^/\\x00]$',
    'x-kubernetes-validations': [
      ABSOLUTE,
      {
        rule: "!self.endsWith('/')",
        message:
          'ends in a slash; for a directory use matchDirectories with dir, for a file leave the slash out',
      },
    ],
  },
);

const DIRECTORY = text('An absolute path of a directory, with a slash at its end.', {
  minLength: 1,
  maxLength: MAX_PATH,
  pattern: '^/([^\\x00]*/)?$',
  'x-kubernetes-validations': [
    ABSOLUTE,
    { rule: "self.endsWith('/')", message: 'does not end in a slash; write one at the end' },
  ],
});

const PATTERN = text(
  'A pattern of the whole absolute path: "*" within a component, "**" across, "?", "[a-z]", "{a,b}".',
  {
    minLength: 1,
    maxLength: MAX_PATH,
    pattern: '^(/|\\*\\*|[{\\\\])',
    'x-kubernetes-validations': [
      {
        rule: "self.startsWith('/') || self.startsWith('**') || self.startsWith('{') || self.startsWith('\\\\')",
        message: 'is not absolute; a pattern matches the whole path, so write "/**/NAME" or the like',
      },
    ],
  },
);

/** A path or, with its slash, a directory. */
const PLACE = text('An absolute path; of a directory, with a slash at its end.', {
  minLength: 1,
  maxLength: MAX_PATH,
  pattern: '^/[^\\x00]*$',
  'x-kubernetes-validations': [ABSOLUTE],
});

const RECURSIVE = flag('Everything below the directory too, not only its direct children.');

export const SOURCE = object(
  'A program, by exactly one of path, dir and pattern.',
  { path: PATH, dir: DIRECTORY, recursive: RECURSIVE, pattern: PATTERN },
  [],
  [
    {
      rule: '(has(self.path) ? 1 : 0) + (has(self.dir) ? 1 : 0) + (has(self.pattern) ? 1 : 0) == 1',
      message: 'name the program by exactly one of path, dir and pattern; make an entry of each',
    },
    {
      rule: '!has(self.recursive) || has(self.dir)',
      message: 'recursive goes with dir only; take it out',
    },
  ],
);

const SOURCES = {
  fromSource: list(
    'The rule holds only for these programs; without it, for every program. A script counts as itself and as its interpreter.',
    SOURCE,
    MAX_SOURCES,
  ),
};

const CONDITIONS = {
  ownerOnly: flag("The file's owner passes and everyone else is denied, with Allow and Block alike."),
  pts: flag('false: a process with a controlling terminal is denied.'),
};

const READ_ONLY = {
  readOnly: flag('Reading passes, and everything that writes is denied, with Allow and Block alike.'),
};

const EXECNAME = text("The last component of the program's path, in whatever directory.", {
  minLength: 1,
  maxLength: 255,
  pattern: '^[^/\\x00]+$',
  'x-kubernetes-validations': [
    {
      rule: "!self.contains('/')",
      message: "is not a file's name; write its last component only, or use path",
    },
  ],
});

export const NAME_RULES = {
  process: {
    matchPaths: object(
      'A program, by exactly one of path and execname.',
      {
        path: PATH,
        execname: EXECNAME,
        ...CONDITIONS,
        ...SOURCES,
        allowedArgs: list(
          'Every argument after the first must be one of these.',
          text('An argument, whole.', { maxLength: MAX_PATH }),
          128,
        ),
        ...COMMON,
      },
      [],
      [
        {
          rule: 'has(self.path) != has(self.execname)',
          message: 'write exactly one of path and execname; make an entry of each',
        },
      ],
    ),
    matchDirectories: object(
      'The programs of a directory.',
      { dir: DIRECTORY, recursive: RECURSIVE, ...CONDITIONS, ...SOURCES, ...COMMON },
      ['dir'],
    ),
    matchPatterns: object(
      'The programs whose path a pattern matches.',
      { pattern: PATTERN, ownerOnly: CONDITIONS.ownerOnly, ...SOURCES, ...COMMON },
      ['pattern'],
    ),
  },
  file: {
    matchPaths: object('A file.', { path: PATH, ...READ_ONLY, ...CONDITIONS, ...SOURCES, ...COMMON }, [
      'path',
    ]),
    matchDirectories: object(
      'The files of a directory.',
      { dir: DIRECTORY, recursive: RECURSIVE, ...READ_ONLY, ...CONDITIONS, ...SOURCES, ...COMMON },
      ['dir'],
    ),
    matchPatterns: object(
      'The files whose path a pattern matches.',
      { pattern: PATTERN, ...READ_ONLY, ownerOnly: CONDITIONS.ownerOnly, ...SOURCES, ...COMMON },
      ['pattern'],
    ),
  },
} as const;

const PROCESS = object('Which programs may run.', {
  matchPaths: list('Programs by path or name.', NAME_RULES.process.matchPaths, MAX_RULES),
  matchDirectories: list('Programs by directory.', NAME_RULES.process.matchDirectories, MAX_RULES),
  matchPatterns: list('Programs by pattern.', NAME_RULES.process.matchPatterns, MAX_RULES),
  drift: text(
    "What happens when a program runs, or a library is mapped, that is not of the container's image: new or changed since the container started, or on a volume, tmpfs or memfd. Audit or Block.",
    { enum: PRESET_ACTIONS },
  ),
  ...COMMON,
});

const FILE = object('Which files may be read and written.', {
  matchPaths: list('Files by path.', NAME_RULES.file.matchPaths, MAX_RULES),
  matchDirectories: list('Files by directory.', NAME_RULES.file.matchDirectories, MAX_RULES),
  matchPatterns: list('Files by pattern.', NAME_RULES.file.matchPatterns, MAX_RULES),
  ...COMMON,
});

export const PROTOCOL_RULE = object(
  'Sockets of a protocol.',
  {
    protocol: text('The protocol; tcp and udp mean those over IP.', { enum: [...PROTOCOL_SPELLINGS.keys()] }),
    ...SOURCES,
    ...COMMON,
  },
  ['protocol'],
);

const DOMAIN = { maxLength: 254, pattern: DOMAIN_NAME };

export const DNS_RULE = object(
  'Look-ups of a domain name and those below it, over UDP and TCP port 53. Kill and KillContainer deny like Block here.',
  {
    domain: text('A domain name like example.com; "*." before it stands for those below it only.', DOMAIN),
    ...SOURCES,
    ...COMMON,
  },
  ['domain'],
);

/** A label without a value is read as one with an empty value. Were it taken out, the selector would reach more. */
const LABEL_VALUE = { ...text("The label's value.", { maxLength: 1024 }), nullable: true } as const;

export const labels = (description: string) => map(description, LABEL_VALUE, 64);

const OPERATOR = text('How the key relates to the values.', { enum: OPERATORS });

const VALUES: Validation = {
  rule: "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
  message: 'list at least one of values with In and NotIn, and none with Exists and DoesNotExist',
};

/** An ordinary label selector, of the peers of network rules. */
export const PEER_SELECTOR = object('A label selector.', {
  matchLabels: labels('All of these labels.'),
  matchExpressions: list(
    'All of these requirements.',
    object(
      'A requirement on a label.',
      {
        key: text('The name of the label.', { maxLength: 317 }),
        operator: OPERATOR,
        values: list('The values.', text('A value.', { maxLength: 512 }), 256),
      },
      ['key'],
    ),
    64,
  ),
});

export type SelectorScope = 'namespace' | 'cluster';

/** A requirement of a policy's selector: on a label by its name, or in KubeArmor's way on `label` or `namespace`. */
export const requirement = (scope: SelectorScope) =>
  object(
    'A requirement on labels, or on the namespace.',
    {
      key: text(
        scope === 'cluster'
          ? 'The name of a label; or "label" with values like app=web, or "namespace" with names of namespaces.'
          : 'The name of a label; or "label" with values like app=web.',
        { minLength: 1, maxLength: 317 },
      ),
      operator: OPERATOR,
      values: list('The values.', text('A value.', { maxLength: 512 }), 256),
    },
    ['key', 'operator'],
    [
      VALUES,
      {
        rule: `!(self.key in ['label', 'namespace']) || self.operator in [${PAIR_OPERATORS.map((word) => `'${word}'`).join(', ')}]`,
        message: 'with key label or namespace, write operator In or NotIn',
      },
      {
        rule: "self.key != 'label' || !has(self.values) || self.values.all(v, v.contains('=') && !v.startsWith('='))",
        message: 'with key label, write each of values as key=value',
      },
      ...(scope === 'cluster'
        ? []
        : [
            {
              rule: "self.key != 'namespace'",
              message:
                'key namespace belongs to a ClusterWorkloadPolicy; this one is about its own namespace only',
            },
          ]),
    ],
  );

const OCTET = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';
const CIDR = text('An address block like 10.0.0.0/8 or 2001:db8::/32.', {
  maxLength: 49,
  pattern: `^(${OCTET}(\\.${OCTET}){3}/([0-9]|[12][0-9]|3[0-2])|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))$`,
});

export const PEER = object(
  'Whom the rule is about: exactly one of cidr, fqdn, and podSelector with or without namespaceSelector. fqdn and selectors are read, and not enforced by this version.',
  {
    cidr: CIDR,
    except: list('Blocks inside of cidr that are left out.', CIDR, 256),
    fqdn: text('A domain name; "*." before it stands for those below.', DOMAIN),
    podSelector: PEER_SELECTOR,
    namespaceSelector: PEER_SELECTOR,
  },
  [],
  [
    {
      rule: '(has(self.cidr) ? 1 : 0) + (has(self.fqdn) ? 1 : 0) + (has(self.podSelector) || has(self.namespaceSelector) ? 1 : 0) == 1',
      message:
        'write exactly one of cidr, fqdn, and podSelector with or without namespaceSelector; make an entry of each',
    },
    { rule: '!has(self.except) || has(self.cidr)', message: 'except goes with cidr only; take it out' },
  ],
);

const PORT = [1, 65535] as const;

export const PORTS = object(
  'Ports of a protocol; without port, all of them.',
  {
    port: integer('The port, or the first of a range.', ...PORT),
    endPort: integer('The last port of the range.', ...PORT),
    protocol: text('The protocol; all of them if left out.', { enum: [...TRANSPORT_SPELLINGS.keys()] }),
  },
  [],
  [
    {
      rule: '!has(self.endPort) || has(self.port)',
      message: 'endPort stands without port; write the first port too',
    },
    {
      rule: '!has(self.endPort) || !has(self.port) || self.endPort >= self.port',
      message: 'endPort is before port; swap them',
    },
  ],
);

const ADDRESS_MORE = {
  ports: list('Any of these ports; without it, every protocol and port.', PORTS, MAX_PORTS),
  ...SOURCES,
  ...COMMON,
};

export const ADDRESS_RULES = {
  egress: object('Where connections and datagrams go.', {
    to: list('Any of these peers; without it, every address.', PEER, MAX_PEERS),
    ...ADDRESS_MORE,
  }),
  ingress: object('Where connections come from, and which ports are bound.', {
    from: list('Any of these peers; without it, every address.', PEER, MAX_PEERS),
    ...ADDRESS_MORE,
  }),
} as const;

const NETWORK = object('With whom, and over what, the workload may talk.', {
  matchProtocols: list('Sockets by protocol.', PROTOCOL_RULE, MAX_RULES),
  matchDNSQueries: list('Look-ups by domain name.', DNS_RULE, MAX_RULES),
  egress: list('Outwards, by address and port.', ADDRESS_RULES.egress, MAX_RULES),
  ingress: list('Inwards, by address and port.', ADDRESS_RULES.ingress, MAX_RULES),
  ...COMMON,
});

export const CAPABILITY_RULE = object(
  'Use of a capability.',
  {
    capability: text("The kernel's name of it, in lower case and without CAP_.", {
      enum: [...CAPABILITY_SPELLINGS.keys()],
    }),
    ...SOURCES,
    ...COMMON,
  },
  ['capability'],
);

const CAPABILITIES_SECTION = object('Which capabilities may be used.', {
  matchCapabilities: list('Capabilities by name.', CAPABILITY_RULE, MAX_RULES),
  ...COMMON,
});

export const ESCAPE_RULE = object(
  'An operation by which programs get out of a workload, or into the kernel.',
  {
    operation: text(
      'mount (also remounting and attaching), umount, pivot_root, chroot, ptrace (taking hold of another process in whatever way), user_namespace, bpf, perf_event, kernel_module (loading one, or making the kernel load one), kexec, kernel_interface (writing core_pattern, modprobe, sysrq, uevent_helper, release_agent, binfmt_misc, debugfs and the like, wherever they are mounted, or reading kcore), device_node (making a device, or opening a disk or the memory raw).',
      { enum: ESCAPES },
    ),
    ...SOURCES,
    ...COMMON,
  },
  ['operation'],
);

const ESCAPE_SECTION = object(
  'Ways out of the workload. Always a deny-list: an Allow rule is an exception for its programs and forbids nothing to others.',
  {
    matchOperations: list('Operations by name.', ESCAPE_RULE, MAX_RULES),
    ...COMMON,
  },
);

export const SYSCALL_SOURCE = object('A program, by path or by directory.', {
  path: PLACE,
  dir: PLACE,
  recursive: RECURSIVE,
});

/** No action: they report, whatever is inherited. */
const { action: _action, ...REPORTED } = COMMON;

const SYSCALLS_NAMED = {
  syscall: list('System calls by name.', text('A name like unlinkat.', { pattern: SYSCALL_NAME }), 512),
  fromSource: list('Only from these programs.', SYSCALL_SOURCE, MAX_SOURCES),
  ...REPORTED,
};

export const SYSCALL_RULES = {
  matchSyscalls: object('System calls, whatever their arguments.', SYSCALLS_NAMED),
  matchPaths: object(
    'System calls that change what is at a path: unlink, rmdir, mkdir, mknod, symlink, link, rename, chmod, chown, utime and setxattr, with their sisters.',
    { path: PLACE, recursive: RECURSIVE, ...SYSCALLS_NAMED },
  ),
} as const;

const SYSCALLS = object('System calls to report; they are never denied, whatever action is inherited.', {
  matchSyscalls: list('By name.', SYSCALL_RULES.matchSyscalls, MAX_RULES),
  matchPaths: list('By name and path.', SYSCALL_RULES.matchPaths, MAX_RULES),
  ...COMMON,
});

export const PRESET_RULE = object(
  'A rule that comes ready-made.',
  {
    name: text('Which one; hardened is every operation of escape.', { enum: PRESETS }),
    ...COMMON,
    action: text('Audit or Block; inherited from the spec, Block if nobody says.', { enum: PRESET_ACTIONS }),
  },
  ['name'],
);

/** The sections of a spec. */
export const SECTIONS = {
  process: PROCESS,
  file: FILE,
  network: NETWORK,
  capabilities: CAPABILITIES_SECTION,
  escape: ESCAPE_SECTION,
  syscalls: SYSCALLS,
  presets: list('Ready-made rules.', PRESET_RULE, 64),
} as const;
