/**
 * Names of MITRE ATT&CK's tactics and techniques, by the ids that policies' tags carry (`MITRE_T1059`, `T1059.004`,
 * `MITRE_TA0002`): of the matrix for enterprises those that touch Linux or containers. Source: attack.mitre.org,
 * version 17. © The MITRE Corporation; this work is reproduced and distributed with its permission.
 */
export const ATTACK_VERSION = '17.1';

const TACTICS: Readonly<Record<string, string>> = {
  TA0043: 'Reconnaissance',
  TA0042: 'Resource Development',
  TA0001: 'Initial Access',
  TA0002: 'Execution',
  TA0003: 'Persistence',
  TA0004: 'Privilege Escalation',
  TA0005: 'Defense Evasion',
  TA0006: 'Credential Access',
  TA0007: 'Discovery',
  TA0008: 'Lateral Movement',
  TA0009: 'Collection',
  TA0011: 'Command and Control',
  TA0010: 'Exfiltration',
  TA0040: 'Impact',
};

const TECHNIQUES: Readonly<Record<string, string>> = {
  T1003: 'OS Credential Dumping',
  'T1003.007': 'Proc Filesystem',
  'T1003.008': '/etc/passwd and /etc/shadow',
  T1005: 'Data from Local System',
  T1006: 'Direct Volume Access',
  T1007: 'System Service Discovery',
  T1014: 'Rootkit',
  T1016: 'System Network Configuration Discovery',
  T1018: 'Remote System Discovery',
  T1021: 'Remote Services',
  'T1021.004': 'SSH',
  T1027: 'Obfuscated Files or Information',
  T1029: 'Scheduled Transfer',
  T1030: 'Data Transfer Size Limits',
  T1033: 'System Owner/User Discovery',
  T1036: 'Masquerading',
  'T1036.003': 'Rename Legitimate Utilities',
  'T1036.005': 'Match Legitimate Resource Name or Location',
  T1037: 'Boot or Logon Initialization Scripts',
  'T1037.004': 'RC Scripts',
  T1039: 'Data from Network Shared Drive',
  T1040: 'Network Sniffing',
  T1041: 'Exfiltration Over C2 Channel',
  T1046: 'Network Service Discovery',
  T1048: 'Exfiltration Over Alternative Protocol',
  T1049: 'System Network Connections Discovery',
  T1053: 'Scheduled Task/Job',
  'T1053.002': 'At',
  'T1053.003': 'Cron',
  'T1053.006': 'Systemd Timers',
  'T1053.007': 'Container Orchestration Job',
  T1055: 'Process Injection',
  'T1055.008': 'Ptrace System Calls',
  'T1055.009': 'Proc Memory',
  T1056: 'Input Capture',
  T1057: 'Process Discovery',
  T1059: 'Command and Scripting Interpreter',
  'T1059.004': 'Unix Shell',
  'T1059.006': 'Python',
  'T1059.007': 'JavaScript',
  T1068: 'Exploitation for Privilege Escalation',
  T1069: 'Permission Groups Discovery',
  T1070: 'Indicator Removal',
  'T1070.002': 'Clear Linux or Mac System Logs',
  'T1070.003': 'Clear Command History',
  'T1070.004': 'File Deletion',
  'T1070.006': 'Timestomp',
  T1071: 'Application Layer Protocol',
  'T1071.001': 'Web Protocols',
  'T1071.004': 'DNS',
  T1074: 'Data Staged',
  T1078: 'Valid Accounts',
  T1082: 'System Information Discovery',
  T1083: 'File and Directory Discovery',
  T1087: 'Account Discovery',
  T1090: 'Proxy',
  T1095: 'Non-Application Layer Protocol',
  T1098: 'Account Manipulation',
  'T1098.004': 'SSH Authorized Keys',
  T1102: 'Web Service',
  T1105: 'Ingress Tool Transfer',
  T1106: 'Native API',
  T1110: 'Brute Force',
  T1119: 'Automated Collection',
  T1129: 'Shared Modules',
  T1133: 'External Remote Services',
  T1136: 'Create Account',
  T1140: 'Deobfuscate/Decode Files or Information',
  T1190: 'Exploit Public-Facing Application',
  T1195: 'Supply Chain Compromise',
  T1199: 'Trusted Relationship',
  T1203: 'Exploitation for Client Execution',
  T1204: 'User Execution',
  'T1204.003': 'Malicious Image',
  T1205: 'Traffic Signaling',
  T1210: 'Exploitation of Remote Services',
  T1211: 'Exploitation for Defense Evasion',
  T1212: 'Exploitation for Credential Access',
  T1218: 'System Binary Proxy Execution',
  T1219: 'Remote Access Tools',
  T1222: 'File and Directory Permissions Modification',
  'T1222.002': 'Linux and Mac File and Directory Permissions Modification',
  T1485: 'Data Destruction',
  T1486: 'Data Encrypted for Impact',
  T1489: 'Service Stop',
  T1490: 'Inhibit System Recovery',
  T1495: 'Firmware Corruption',
  T1496: 'Resource Hijacking',
  T1498: 'Network Denial of Service',
  T1499: 'Endpoint Denial of Service',
  T1505: 'Server Software Component',
  'T1505.003': 'Web Shell',
  T1518: 'Software Discovery',
  T1525: 'Implant Internal Image',
  T1526: 'Cloud Service Discovery',
  T1528: 'Steal Application Access Token',
  T1529: 'System Shutdown/Reboot',
  T1531: 'Account Access Removal',
  T1543: 'Create or Modify System Process',
  'T1543.002': 'Systemd Service',
  'T1543.005': 'Container Service',
  T1546: 'Event Triggered Execution',
  'T1546.004': 'Unix Shell Configuration Modification',
  'T1546.005': 'Trap',
  T1547: 'Boot or Logon Autostart Execution',
  'T1547.006': 'Kernel Modules and Extensions',
  T1548: 'Abuse Elevation Control Mechanism',
  'T1548.001': 'Setuid and Setgid',
  'T1548.003': 'Sudo and Sudo Caching',
  T1550: 'Use Alternate Authentication Material',
  'T1550.001': 'Application Access Token',
  T1552: 'Unsecured Credentials',
  'T1552.001': 'Credentials In Files',
  'T1552.003': 'Bash History',
  'T1552.004': 'Private Keys',
  'T1552.005': 'Cloud Instance Metadata API',
  'T1552.007': 'Container API',
  T1553: 'Subvert Trust Controls',
  'T1553.004': 'Install Root Certificate',
  T1554: 'Compromise Host Software Binary',
  T1555: 'Credentials from Password Stores',
  T1556: 'Modify Authentication Process',
  T1557: 'Adversary-in-the-Middle',
  T1560: 'Archive Collected Data',
  T1561: 'Disk Wipe',
  T1562: 'Impair Defenses',
  'T1562.001': 'Disable or Modify Tools',
  'T1562.003': 'Impair Command History Logging',
  'T1562.004': 'Disable or Modify System Firewall',
  'T1562.012': 'Disable or Modify Linux Audit System',
  T1563: 'Remote Service Session Hijacking',
  T1564: 'Hide Artifacts',
  'T1564.001': 'Hidden Files and Directories',
  T1565: 'Data Manipulation',
  T1567: 'Exfiltration Over Web Service',
  T1568: 'Dynamic Resolution',
  T1569: 'System Services',
  T1570: 'Lateral Tool Transfer',
  T1571: 'Non-Standard Port',
  T1572: 'Protocol Tunneling',
  T1573: 'Encrypted Channel',
  T1574: 'Hijack Execution Flow',
  'T1574.006': 'Dynamic Linker Hijacking',
  'T1574.007': 'Path Interception by PATH Environment Variable',
  T1580: 'Cloud Infrastructure Discovery',
  T1590: 'Gather Victim Network Information',
  T1595: 'Active Scanning',
  T1600: 'Weaken Encryption',
  T1601: 'Modify System Image',
  T1609: 'Container Administration Command',
  T1610: 'Deploy Container',
  T1611: 'Escape to Host',
  T1612: 'Build Image on Host',
  T1613: 'Container and Resource Discovery',
  T1619: 'Cloud Storage Object Discovery',
  T1620: 'Reflective Code Loading',
  T1622: 'Debugger Evasion',
};

export interface AttackName {
  readonly id: string;
  /** Absent for an id that is not in the table. */
  readonly name?: string;
}

export interface Attack {
  readonly tactics: readonly AttackName[];
  readonly techniques: readonly AttackName[];
  readonly subtechniques: readonly AttackName[];
}

const ID = /(?<![A-Za-z0-9])T(A\d{4}|\d{4}(\.\d{3})?)(?![A-Za-z0-9])/g;

/** What a rule's tags name of ATT&CK, each once, in the tags' order; a sub-technique brings its technique along. */
export function attackOf(tags: readonly string[]): Attack {
  const ids = new Set<string>();
  for (const tag of tags) {
    for (const [id] of tag.toUpperCase().replaceAll('_', ' ').matchAll(ID)) {
      if (id.includes('.')) ids.add(id.slice(0, 5));
      ids.add(id);
    }
    const word = tag
      .toLowerCase()
      .replace(/^mitre_/, '')
      .replaceAll(/[_-]/g, ' ');
    for (const [id, name] of Object.entries(TACTICS)) if (name.toLowerCase() === word) ids.add(id);
  }
  const all = [...ids].map((id) => ({ id, name: TACTICS[id] ?? TECHNIQUES[id] }));
  return {
    tactics: all.filter(({ id }) => id.startsWith('TA')),
    techniques: all.filter(({ id }) => /^T\d{4}$/.test(id)),
    subtechniques: all.filter(({ id }) => id.includes('.')),
  };
}
