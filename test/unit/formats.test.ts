import { describe, expect, test } from 'vitest';
import { attackOf } from '../../agent/event/attack.js';
import type { BelayRecord } from '../../agent/event/record.js';
import { FORMAT_NAMES, FORMATS, formatsWith } from '../../agent/sink/formats/format.js';
import { fitting } from '../../agent/sink/formats/shorten.js';
import { parseCef } from '../schema/cef.js';
import { ecsFaults } from '../schema/ecs.js';
import { ocsfFaults } from '../schema/ocsf.js';
import { ALL_TYPES, alertOf, execOf, HOSTILE, hostileOf, LOGS } from './records.js';

const EVERYTHING: readonly (readonly [string, BelayRecord])[] = [
  ...ALL_TYPES,
  ...HOSTILE.map((text) => [`an alert with ${JSON.stringify(text.slice(0, 20))}`, hostileOf(text)] as const),
];

describe.each(FORMAT_NAMES)('%s', (name) => {
  const format = FORMATS[name];

  test.each(EVERYTHING)('is one line without anything that steers a terminal: %s', (_, record) => {
    const line = format(record);
    expect(line).not.toMatch(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u);
    expect(Buffer.from(line).toString()).toBe(line);
  });

  test.each(EVERYTHING)('carries the id of the event: %s', (_, record) => {
    expect(format(record)).toContain(record.id);
  });

  test('gives equal text for equal records', () => {
    expect(format(alertOf())).toBe(format(alertOf()));
  });

  test('fits into 8 KiB, long arguments cut and said to be', () => {
    const long = alertOf();
    const record = {
      ...long,
      message: 'm'.repeat(20_000),
      process: long.process && { ...long.process, arguments: Array(500).fill('é'.repeat(2000)) },
    };
    const line = fitting(record, 8192, format);
    expect(Buffer.byteLength(line ?? '')).toBeGreaterThan(100);
    expect(Buffer.byteLength(line ?? '')).toBeLessThanOrEqual(8192);
    expect(line).toContain('…');
    expect(fitting(alertOf(), 8192, format)).toBe(format(alertOf()));
  });
});

describe('belay', () => {
  test.each(EVERYTHING)('is the record as JSON: %s', (_, record) => {
    expect(JSON.parse(FORMATS.belay(record))).toEqual(JSON.parse(JSON.stringify(record)));
  });
});

describe('ECS', () => {
  test.each(EVERYTHING)('has fields, types and values of the published schema only: %s', (_, record) => {
    expect(ecsFaults(JSON.parse(FORMATS.ecs(record)))).toEqual([]);
  });

  test('is checked by something that sees mistakes', () => {
    const document = JSON.parse(FORMATS.ecs(alertOf()));
    const wrong = {
      ...document,
      event: { ...document.event, kind: 'alarm', category: 'process', sequence: '7' },
      process: { ...document.process, program: 'x' },
    };
    expect(ecsFaults(wrong).join()).toMatch(/kind cannot be alarm.*category must be a list|category.*kind/);
    expect(ecsFaults(wrong).join()).toContain('process.program is no field');
    expect(ecsFaults(wrong).join()).toContain('event.sequence is not long');
  });

  test('says what happened where people look for it', () => {
    expect(JSON.parse(FORMATS.ecs(alertOf()))).toMatchObject({
      '@timestamp': '2023-11-14T22:13:20.123456789Z',
      event: {
        kind: 'alert',
        category: ['intrusion_detection', 'process'],
        type: ['denied', 'start'],
        outcome: 'failure',
      },
      orchestrator: { namespace: 'shop', resource: { name: 'web-1', type: 'pod' } },
      labels: { 'app_kubernetes_io/name': 'web' },
      rule: { ruleset: 'no-shells' },
      threat: {
        technique: {
          id: ['T1059'],
          name: ['Command and Scripting Interpreter'],
          subtechnique: { id: ['T1059.004'] },
        },
      },
    });
  });
});

describe('OCSF', () => {
  test.each(EVERYTHING)('has the attributes of its class only, and all that it must: %s', (_, record) => {
    expect(ocsfFaults(JSON.parse(FORMATS.ocsf(record)))).toEqual([]);
  });

  test('is checked by something that sees mistakes', () => {
    const event = JSON.parse(FORMATS.ocsf(alertOf()));
    expect(ocsfFaults({ ...event, severity_id: 7 }).join()).toContain('severity_id');
    expect(ocsfFaults({ ...event, finding_info: {} }).join()).toContain("required property 'uid'");
    expect(ocsfFaults({ ...event, pod: 'x' }).join()).toContain('additional');
  });

  test('is a Detection Finding for an alert, a Process Activity for a start', () => {
    expect(JSON.parse(FORMATS.ocsf(alertOf()))).toMatchObject({
      class_uid: 2004,
      severity_id: 4,
      action_id: 2,
      disposition: 'Blocked',
      finding_info: {
        attacks: [
          { technique: { uid: 'T1059' }, sub_technique: { name: 'Unix Shell' } },
          { tactic: { uid: 'TA0002' } },
        ],
      },
    });
    expect(JSON.parse(FORMATS.ocsf(execOf()))).toMatchObject({ class_uid: 1007, activity_name: 'Launch' });
  });

  test('tells of all that becomes of a process as Process Activity', () => {
    const told = LOGS.map(([, log]) => JSON.parse(FORMATS.ocsf(log)))
      .filter(({ class_uid }) => class_uid === 1007)
      .map(({ type_uid, activity_name }) => [type_uid, activity_name]);
    expect(told).toEqual([
      [100701, 'Launch'],
      [100702, 'Terminate'],
      [100702, 'Terminate'],
      [100705, 'Set User ID'],
      [100799, 'capset'],
    ]);
  });

  test.each([
    ['a fork', 'fork of process 4322 by /usr/bin/bash'],
    ['an exit', 'exit of code 3 by /usr/bin/bash'],
    [
      'credentials that change',
      'setuid of uid 0 to 33, effectiveUid 0 to 33, savedUid 0 to 33 by /usr/bin/bash',
    ],
    ['a file that is visible', 'open of /etc/hosts by /usr/bin/bash'],
  ])('says in words: %s', (which, message) => {
    const [, log] = LOGS.find(([name]) => name === which) ?? [];
    expect(JSON.parse(FORMATS.ocsf(log ?? execOf()))).toMatchObject({ message });
  });
});

describe('CEF', () => {
  test.each(EVERYTHING)('follows the grammar, and no value makes a field of its own: %s', (_, record) => {
    const { header, extension } = parseCef(FORMATS.cef(record));
    expect(header).toHaveLength(7);
    expect(extension.get('externalId')).toBe(record.id);
    if (record.type === 'alert') expect(extension.get('act')).toBe(record.verdict);
  });

  test('gives back what was put in', () => {
    const { header, extension } = parseCef(FORMATS.cef(hostileOf('a|b\\|c=d e=f\\')));
    expect(header[5]).toBe('Denied open (a|b\\|c=d e=f\\)');
    expect(extension.get('filePath')).toBe('a|b\\|c=d e=f\\');
    expect(parseCef(FORMATS.cef(hostileOf('two\nlines'))).extension.get('filePath')).toBe('two\nlines');
    expect(parseCef(FORMATS.cef(hostileOf('\u001b[31m'))).extension.get('filePath')).toBe('\\x1b[31m');
  });
});

describe('KubeArmor', () => {
  test('is an alert of KubeArmor’s where there is one, and a message else', () => {
    expect(JSON.parse(FORMATS.kubearmor(alertOf()))).toMatchObject({
      PolicyName: 'no-shells',
      Enforcer: 'BPFLSM',
    });
    const gap = ALL_TYPES.find(([, { type }]) => type === 'gap')?.[1] as BelayRecord;
    expect(JSON.parse(FORMATS.kubearmor(gap))).toMatchObject({
      Level: 'WARN',
      Message: expect.stringContaining('12 events'),
    });
  });
});

test('KubeArmor’s logs follow the settings from one record to the next', () => {
  let dropResourceFromProcessLogs = false;
  const { kubearmor } = formatsWith(() => ({ dropResourceFromProcessLogs }));
  expect(JSON.parse(kubearmor(execOf()))).toMatchObject({ Resource: '/usr/bin/bash -c id' });
  dropResourceFromProcessLogs = true;
  expect(JSON.parse(kubearmor(execOf()))).not.toHaveProperty('Resource');
});

describe('ATT&CK', () => {
  test.each([
    [['MITRE_T1059'], ['T1059 Command and Scripting Interpreter']],
    [['T1611', 'MITRE_T1611'], ['T1611 Escape to Host']],
    [['MITRE_TA0002'], ['TA0002 Execution']],
    [
      ['MITRE_execution', 'mitre_privilege-escalation'],
      ['TA0002 Execution', 'TA0004 Privilege Escalation'],
    ],
    [['MITRE_T1552.007_container_api'], ['T1552 Unsecured Credentials', 'T1552.007 Container API']],
    [['MITRE_T1072_software_deployment_tools'], ['T1072 Software Deployment Tools']],
    [['mitre_t1496.001'], ['T1496 Resource Hijacking', 'T1496.001 Compute Hijacking']],
    [['T9999'], ['T9999 undefined']],
    [['XT1059', 'T10591', 'shell'], []],
  ])('of the tags %j is %j', (tags, names) => {
    const { tactics, techniques, subtechniques } = attackOf(tags);
    expect([...tactics, ...techniques, ...subtechniques].map(({ id, name }) => `${id} ${name}`)).toEqual(
      names,
    );
  });
});
