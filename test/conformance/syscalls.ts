import { armor, type Case, passes } from './case.js';

const POD = 'ubuntu-1';
const HOME = '/home/user1';
const UNLINK = '/usr/bin/unlink';

let files = 0;

function row(name: string, rules: string, of: { severity: number; message: string }, more = ''): Case {
  const path = `${HOME}/dropped-${++files}`;
  return {
    name,
    policies: [
      armor(
        'calls',
        `${more}selector: {matchLabels: {container: ${POD}}}, syscalls: {${rules.replaceAll('FILE', path)}}`,
      ),
    ],
    steps: [passes(POD, `echo > ${path}; unlink ${path}`)],
    alerts: [
      {
        ...{ policy: 'calls', action: 'Audit', verdict: 'Passed', pod: POD, ...of },
        resource: rules.startsWith('matchPaths') ? path : 'unlink',
      },
    ],
  };
}

const CALLED = 'matchSyscalls: [{syscall: [unlink]';
const PLACED = 'matchPaths: [{syscall: [unlink], path: ';
const FROM = {
  'from a program': `, fromSource: [{path: ${UNLINK}}]`,
  'from the programs of a directory': ', fromSource: [{dir: /usr/bin/}]',
  'from all programs below a directory': ', fromSource: [{dir: /usr/, recursive: true}]',
};
const SPEC = { severity: 3, message: 'of the spec' };
const spec = `severity: ${SPEC.severity}, message: ${SPEC.message}, `;
const ITEM = { severity: 8, message: 'of the rule' };

/** tests/k8s_env/syscalls; that mount and umount are blocked by default is expected of no enforcer. */
export const SYSCALLS: readonly Case[] = [
  row('a call', `${CALLED}}]`, SPEC, spec),
  ...Object.entries(FROM).map(([from, source]) => row(`a call ${from}`, `${CALLED}${source}}]`, SPEC, spec)),
  row('a call anywhere below a directory', `${PLACED}/home/, recursive: true}]`, SPEC, spec),
  row('a call at a path', `${PLACED}FILE}]`, SPEC, spec),
  ...Object.entries(FROM).map(([from, source]) =>
    row(`a call at a path, ${from}`, `${PLACED}FILE${source}}]`, SPEC, spec),
  ),
  ...[`${CALLED}`, `${PLACED}FILE`].flatMap((rule) => {
    const list = rule.slice(0, rule.indexOf(':'));
    const item = `, severity: ${ITEM.severity}, message: ${ITEM.message}`;
    return [
      row(`${list}: the policy’s severity and message`, `${rule}}]`, SPEC, spec),
      row(`${list}: the rule’s own`, `${rule}${item}}]`, ITEM),
      row(`${list}: the rule’s own before the policy’s`, `${rule}${item}}]`, ITEM, spec),
      row(
        `${list}: the policy’s message where the rule has none`,
        `${rule}, severity: ${ITEM.severity}}]`,
        { ...SPEC, severity: ITEM.severity },
        spec,
      ),
    ];
  }),
];
