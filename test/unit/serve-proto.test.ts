import { describe, expect, it } from 'vitest';
import { kubeArmorAlert, kubeArmorLog, kubeArmorThreshold } from '../../agent/event/kubearmor.js';
import type {
  AlertRecord,
  BelayRecord,
  CredentialsRecord,
  ExecRecord,
  FailureRecord,
  GapRecord,
  ObjectRecord,
  ProcessRecord,
  UnknownPodRecord,
} from '../../agent/event/record.js';
import { Definitions } from '../../agent/serve/definitions.js';
import { LOGS, logOf, throttleOf } from './records.js';
import { alertRecord, execOf } from './serve-records.js';

type KeysOfUnion<T> = T extends T ? keyof T : never;
type Every<T> = Readonly<Record<KeysOfUnion<T>, true>>;

// A field that a record gains belongs here, and into record.proto: what is missing there does not reach gRPC's clients.
const RECORD: Every<BelayRecord> = {
  ...{ schema: true, type: true, time: true, id: true, sequence: true, node: true, cluster: true },
  ...{
    namespace: true,
    pod: true,
    container: true,
    containerId: true,
    image: true,
    labels: true,
    owner: true,
  },
  ...{ process: true, class: true, operation: true, object: true, policy: true, policyNamespace: true },
  ...{
    rule: true,
    ruleId: true,
    generation: true,
    action: true,
    verdict: true,
    dryRun: true,
    severity: true,
  },
  ...{ tags: true, message: true, count: true, enforcer: true, ring: true, lost: true, failure: true },
  ...{ podUid: true, cgroup: true, maxAlertsPerSecond: true, throttleSeconds: true },
};
const PROCESS: Every<ProcessRecord> = {
  ...{ execId: true, pid: true, pidInside: true, tid: true, uid: true, gid: true, program: true },
  ...{ programBytes: true, comm: true, arguments: true, argumentsCut: true, tty: true, parent: true },
  ...{
    cwd: true,
    cwdBytes: true,
    cwdCut: true,
    loginUid: true,
    capabilities: true,
    namespaces: true,
    ancestors: true,
  },
};
const OBJECT: Every<ObjectRecord> = {
  ...{ path: true, pathBytes: true, unnamed: true, access: true, socket: true, protocol: true },
  ...{ address: true, port: true, capability: true, domain: true, syscall: true, command: true, name: true },
  ...{ pid: true, pidInside: true, exitCode: true, exitSignal: true, before: true, after: true },
};
const CREDENTIALS: Every<CredentialsRecord> = {
  ...{ uid: true, gid: true, effectiveUid: true, effectiveGid: true, savedUid: true, savedGid: true },
  ...{ permitted: true, effective: true },
};

const definitions = new Definitions();

/** There and back. */
function carried<T extends object>(message: string, value: T): Record<string, unknown> {
  const { serialize, deserialize } = definitions.message<T>(message);
  return deserialize(serialize(value)) as Record<string, unknown>;
}

/** Those that have a default, and those of `set`. */
const fieldsOf = (message: string, set: object = {}) => new Set(Object.keys(carried(message, set)));

describe('a record in protobuf', () => {
  it('has every field that it has in JSON, by the same name', () => {
    expect(fieldsOf('belay.v1.Record')).toEqual(new Set(Object.keys(RECORD)));
    expect(fieldsOf('belay.v1.Process', { loginUid: 0 })).toEqual(new Set(Object.keys(PROCESS)));
    expect(fieldsOf('belay.v1.Object')).toEqual(new Set(Object.keys(OBJECT)));
    expect(fieldsOf('belay.v1.Credentials')).toEqual(new Set(Object.keys(CREDENTIALS)));
  });

  const WHERE = {
    schema: 'belay.v1',
    time: '1700000000123456789',
    id: 'a-1',
    sequence: '18446744073709551615',
  } as const;
  const failure: FailureRecord = {
    ...WHERE,
    type: 'failure',
    node: 'n',
    failure: 'FAILURE_BIND',
    count: '3',
  };
  const gap: GapRecord = {
    ...{ ...WHERE, type: 'gap', node: 'n', namespace: 'shop', pod: 'web-1', container: 'c' },
    ...{ ring: 'denials', lost: '9007199254740993' },
  };
  const unknown: UnknownPodRecord = { ...WHERE, type: 'unknown-pod', node: 'n', podUid: 'u', cgroup: '/a' };
  const alert: AlertRecord = alertRecord({
    object: { path: '/e\u0301\ufffd', pathBytes: 'L2X/', access: 'write' },
    dryRun: true,
    tags: ['a', 'b'],
  });
  const exec: ExecRecord = execOf({});

  it.each([alert, exec, ...LOGS.map(([, log]) => log), gap, throttleOf(), failure, unknown])(
    'says the same as in JSON: $type',
    (record) => {
      const back = carried('belay.v1.Record', record);
      // what JSON leaves out is at its default here
      const agrees = (said: unknown, carriedValue: unknown): void => {
        if (typeof said === 'object' && said !== null && !Array.isArray(said))
          for (const [name, value] of Object.entries(said))
            agrees(value, (carriedValue as Record<string, unknown>)[name]);
        else if (said !== undefined) expect(carriedValue).toEqual(said);
      };
      agrees(record, back);
    },
  );
});

describe("KubeArmor's messages", () => {
  it('carry every field that alerts and logs are given', () => {
    const agrees = (message: string, value: object) => {
      const back = carried(message, value);
      for (const [name, said] of Object.entries(value)) {
        const wanted = name === 'Timestamp' ? String(said) : said;
        expect([name, back[name]]).toEqual([name, wanted]);
      }
    };
    agrees('feeder.Alert', kubeArmorAlert(alertRecord({})));
    agrees('feeder.Alert', kubeArmorThreshold(throttleOf()));
    agrees('feeder.Log', kubeArmorLog(execOf({})));
    agrees('feeder.Log', kubeArmorLog(logOf()));
  });

  // A decoder that knows only the wire format, so that the numbers are those that are written here, not those of the .proto
  it("have KubeArmor's field numbers", () => {
    const numbers = (message: string, value: object) => {
      const bytes = definitions.message(message).serialize(value);
      const texts = new Map<number, string>();
      for (let at = 0; at < bytes.length; ) {
        const varint = () => {
          let [value, shift] = [0n, 0n];
          for (;;) {
            const byte = bytes[at++];
            value |= BigInt(byte & 127) << shift;
            if (byte < 128) return Number(value);
            shift += 7n;
          }
        };
        const key = varint();
        if ((key & 7) === 0) texts.set(key >> 3, String(varint()));
        else {
          const length = varint();
          texts.set(key >> 3, bytes.toString('utf8', at, at + length));
          at += length;
        }
      }
      return Object.fromEntries(texts);
    };
    expect(numbers('feeder.Alert', kubeArmorAlert(alertRecord({ tags: ['t'] })))).toMatchObject({
      ...{ 1: '1700000000', 3: 'prod', 4: 'node-1', 5: 'shop', 6: 'web-1', 7: 'c0ffee', 8: 'nginx' },
      ...{ 9: '4321', 10: '4000', 11: '12', 12: '1000', 13: 'no-shells', 14: '7', 15: 't', 16: 'no shells' },
      ...{ 17: 'MatchedPolicy', 18: '/usr/bin/bash', 19: 'Process', 20: '/usr/bin/id', 22: 'Block' },
      ...{ 21: 'lsm=SECURITY_BPRM_CHECK', 23: 'Permission denied', 24: 'nginx:1', 25: '/usr/bin/bash' },
      ...{ 26: '/usr/bin/id', 27: '4000', 28: 'BPFLSM', 29: 'app=web,tier=front', 30: 't', 38: 'node-1' },
    });
    expect(numbers('feeder.Alert', kubeArmorThreshold(throttleOf()))).toMatchObject({
      ...{ 17: 'SystemEvent', 19: 'AlertThreshold', 23: 'Passed', 28: 'BPFLSM', 34: '2', 35: '60' },
    });
    expect(numbers('feeder.Log', kubeArmorLog(execOf({})))).toMatchObject({
      ...{ 13: 'ContainerLog', 14: '/usr/sbin/nginx', 15: 'Process', 16: '/usr/bin/bash -c id' },
      ...{
        17: 'syscall=SYS_EXECVE',
        18: 'Passed',
        19: 'nginx:1',
        20: '/usr/sbin/nginx',
        21: '/usr/bin/bash',
      },
      ...{ 22: '4000', 23: 'app=web,tier=front', 28: 'node-1' },
    });
  });
});
