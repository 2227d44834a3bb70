import { describe, expect, it } from 'vitest';
import { kubeArmorAlert, kubeArmorLog, kubeArmorOf } from '../../agent/event/kubearmor.js';
import type { AlertRecord, BelayRecord } from '../../agent/event/record.js';
import { LOGS, throttleOf } from './records.js';
import { alertRecord, execOf } from './serve-records.js';

describe('an alert, as KubeArmor tells it', () => {
  it('has its fields and values', () => {
    expect(kubeArmorAlert(alertRecord({}))).toEqual({
      Timestamp: 1_700_000_000,
      UpdatedTime: '2023-11-14T22:13:20.123456Z',
      ClusterName: 'prod',
      HostName: 'node-1',
      NamespaceName: 'shop',
      Owner: { Ref: 'Deployment', Name: 'web', Namespace: 'shop' },
      PodName: 'web-1',
      Labels: 'app=web,tier=front',
      ContainerID: 'c0ffee',
      ContainerName: 'nginx',
      ContainerImage: 'nginx:1',
      HostPPID: 4000,
      HostPID: 4321,
      PPID: 4000,
      Cwd: '/srv',
      TTY: 'pts0',
      PID: 12,
      UID: 1000,
      ParentProcessName: '/usr/bin/bash',
      ProcessName: '/usr/bin/id',
      PolicyName: 'no-shells',
      Severity: '7',
      Tags: 'MITRE_T1059,shell',
      ATags: ['MITRE_T1059', 'shell'],
      Message: 'no shells',
      Type: 'MatchedPolicy',
      Source: '/usr/bin/bash',
      Operation: 'Process',
      Resource: '/usr/bin/id',
      Data: 'lsm=SECURITY_BPRM_CHECK',
      Enforcer: 'BPFLSM',
      Action: 'Block',
      Result: 'Permission denied',
      ExecEvent: { ExecID: '99', ExecutableName: 'bash' },
      NodeID: 'node-1',
    });
  });

  it.each([
    [
      { class: 'File', operation: 'open', object: { path: '/etc/shadow', access: 'read' } },
      '/etc/shadow',
      'lsm=FILE_OPEN',
    ],
    [{ class: 'File', operation: 'unlink', object: { path: '/a' } }, '/a', 'lsm=FILE_UNLINK'],
    [
      {
        class: 'Network',
        operation: 'connect',
        object: { socket: 'tcp', protocol: 'tcp', address: '10.0.0.1', port: 80 },
      },
      'remoteip=10.0.0.1 port=80 protocol=TCP',
      'lsm=SOCKET_CONNECT remoteip=10.0.0.1 port=80 protocol=TCP',
    ],
    [
      { class: 'Network', operation: 'socket', object: { socket: 'ip-raw', protocol: 'udp' } },
      'protocol=UDP',
      'lsm=SOCKET_CREATE protocol=UDP',
    ],
    [
      { class: 'Capabilities', operation: 'capable', object: { capability: 'net_raw' } },
      'CAP_NET_RAW',
      'lsm=CAPABLE CAP_NET_RAW',
    ],
  ] satisfies [Partial<AlertRecord>, string, string][])(
    'names what was asked for: %j',
    (fields, resource, data) => {
      const told = kubeArmorAlert(alertRecord(fields));
      expect(told).toMatchObject({ Resource: resource, Data: data, Operation: fields.class });
      expect(told).toMatchObject({ ProcessName: '/usr/bin/bash', ParentProcessName: '/usr/sbin/nginx' });
    },
  );

  it('knows Block for every denial, and says what a dry run would have done', () => {
    const told = (fields: Partial<AlertRecord>) => {
      const { Action, Result } = kubeArmorAlert(alertRecord(fields));
      return [Action, Result];
    };
    expect(told({ action: 'Kill', verdict: 'Killed' })).toEqual(['Block', 'Permission denied']);
    expect(told({ action: 'KillContainer', verdict: 'ContainerKilled' })).toEqual([
      'Block',
      'Permission denied',
    ]);
    expect(told({ action: 'Audit', verdict: 'Passed' })).toEqual(['Audit', 'Passed']);
    expect(told({ action: 'Block', verdict: 'Passed', dryRun: true })).toEqual(['Audit (Block)', 'Passed']);
    expect(told({ action: 'Block', verdict: 'Passed', policy: '', rule: 'DefaultPosture' })).toEqual([
      'Audit',
      'Passed',
    ]);
  });

  it('names the default posture, where no policy said so', () => {
    expect(kubeArmorAlert(alertRecord({ policy: '', rule: 'DefaultPosture' })).PolicyName).toBe(
      'DefaultPosture',
    );
  });

  it('is of the host, and of no pod, when the host itself acted', () => {
    const told = kubeArmorAlert(
      alertRecord({ namespace: '', pod: 'node-1', owner: undefined, container: '' }),
    );
    expect(told).toMatchObject({ Type: 'MatchedHostPolicy', PodName: '', HostName: 'node-1' });
    expect(told).not.toHaveProperty('Owner');
  });

  it('names nobody when a packet arrived and nobody acted', () => {
    const told = kubeArmorAlert(alertRecord({ process: undefined, class: 'Network', operation: 'accept' }));
    expect(told).toMatchObject({ HostPID: 0, Source: '', ProcessName: '' });
    expect(told).not.toHaveProperty('ExecEvent');
  });
});

it('a container with too many alerts is a system event, of the container and no process', () => {
  expect(kubeArmorOf(throttleOf())).toEqual({
    ...{ Timestamp: 1_700_000_000, UpdatedTime: '2023-11-14T22:13:20.123456Z' },
    ...{ ClusterName: 'prod', HostName: 'node-1', NodeID: 'node-1', NamespaceName: 'shop', PodName: 'web-1' },
    ...{ Labels: 'app.kubernetes.io/name=web,tier=front', ContainerID: 'c0ffee', ContainerName: 'nginx' },
    ...{ ContainerImage: 'nginx:1', Owner: { Ref: 'Deployment', Name: 'web', Namespace: 'shop' } },
    ...{ Type: 'SystemEvent', Operation: 'AlertThreshold', Enforcer: 'BPFLSM', Result: 'Passed' },
    ...{ MaxAlertsPerSec: 2, DroppingAlertsInterval: 60 },
  });
});

describe('a program that started, as KubeArmor tells it', () => {
  const started = execOf({});

  it('is a log with the whole command', () => {
    expect(kubeArmorLog(started)).toMatchObject({
      Type: 'ContainerLog',
      Operation: 'Process',
      Source: '/usr/sbin/nginx',
      ProcessName: '/usr/bin/bash',
      Resource: '/usr/bin/bash -c id',
      Data: 'syscall=SYS_EXECVE',
      Result: 'Passed',
    });
    expect(kubeArmorLog({ ...started, namespace: '', pod: 'node-1' }).Type).toBe('HostLog');
  });

  it('has no Resource, which has its arguments, where the settings say so; what is no process has', () => {
    const drop = { dropResourceFromProcessLogs: true };
    const { Resource, ...rest } = kubeArmorLog(started);
    expect(kubeArmorLog(started, drop)).toStrictEqual(rest);
    for (const [, log] of LOGS) expect('Resource' in kubeArmorLog(log, drop)).toBe(log.class !== 'Process');
    expect(kubeArmorOf(alertRecord({ class: 'Process' }), drop)).toHaveProperty('Resource');
  });

  it.each([
    ['a file that is visible', 'File', '/etc/hosts', 'lsm=FILE_OPEN'],
    [
      'a connection that is visible',
      'Network',
      'remoteip=10.0.0.7 port=443 protocol=TCP',
      'lsm=SOCKET_CONNECT remoteip=10.0.0.7 port=443 protocol=TCP',
    ],
    ['a capability that is visible', 'Capabilities', 'CAP_CHOWN', 'lsm=CAPABLE CAP_CHOWN'],
    ['an exit', 'Process', '/usr/bin/bash', 'syscall=SYS_EXIT_GROUP'],
    ['credentials that change', 'Process', '/usr/bin/bash', 'syscall=SYS_SETUID'],
  ])('is a log like %s', (which, Operation, Resource, Data) => {
    const [, log] = LOGS.find(([name]) => name === which) ?? [];
    expect(log && kubeArmorOf(log)).toMatchObject({
      ...{ Type: 'ContainerLog', Operation, Resource, Data, Result: 'Passed', ProcessName: '/usr/bin/bash' },
    });
  });

  it('is told from an alert, and other records are neither', () => {
    expect(kubeArmorOf(alertRecord({}))).toHaveProperty('PolicyName');
    expect(kubeArmorOf(started)).not.toHaveProperty('PolicyName');
    expect(kubeArmorOf({ type: 'gap' } as BelayRecord)).toBeUndefined();
  });
});
