// Batches as the addon hands them over, by the layout of the built object: denials, audited opens, connections and started
// programs in a mix, for as many workloads as asked for.
import { enums, structs } from '../../dist/kernel/abi.js';
import { BATCH_HEAD } from '../../dist/kernel/addon.js';

const { fields, size } = structs.event;
const O = enums.operation;
const HEAD = BATCH_HEAD;

/** @returns a batch with so many records, and their number */
export function batchOf(records, workloads) {
  return Buffer.concat(Array.from({ length: records }, (_, i) => recordOf(i, i % workloads)));
}

function recordOf(i, workload) {
  const kind = i % 10;
  const network = kind === 8;
  const exec = kind === 9;
  const strings = {
    program: '/usr/lib/jvm/java-17-openjdk-amd64/bin/java',
    parent: '/usr/bin/tini',
    cwd: '/app',
    arguments: exec ? `java\0-Xmx512m\0-jar\0/app/service-${i}.jar\0` : 'java\0-jar\0/app/service.jar\0',
    object: network ? '' : `/var/lib/app/data/${workload}/shard-${i % 97}/segment.db`,
  };
  const length = size + Object.values(strings).reduce((sum, text) => sum + text.length, 0);
  const b = Buffer.alloc(HEAD + ((length + 7) & ~7));
  b.writeUInt32LE(exec ? enums.ring.RING_TELEMETRY : kind < 6 ? enums.ring.RING_DENIALS : enums.ring.RING_MATCHES, 0);
  b.writeUInt32LE(length, 4);
  b.writeBigUInt64LE(BigInt(i * 512), 8);
  const put = (name, value) => {
    const { offset, size: width } = fields[name];
    if (width === 8) b.writeBigUInt64LE(BigInt(value), HEAD + offset);
    else b.writeUIntLE(value, HEAD + offset, width);
  };
  put('time', 1_000_000_000 + i * 1000);
  put('exec_id', 77_000 + workload);
  put('fold_key', i);
  put('count', 1);
  put('workload', workload);
  put('generation', 3);
  put('rule', 6);
  for (const name of ['pid', 'tid', 'ppid']) put(name, 4000 + (i % 1000));
  for (const [j, name] of ['mount', 'pid', 'network', 'user'].entries()) put(`${name}_namespace`, 4026532201 + j);
  put('capabilities', 0xa80425fb);
  put('login_uid', 0xffffffff);
  put('pid_inside', 7);
  put('uid', 1000);
  put('gid', 1000);
  put('operation', exec ? O.OPERATION_EXEC : network ? O.OPERATION_CONNECT : O.OPERATION_OPEN);
  put('verdict', kind < 6 ? enums.verdict.VERDICT_DENY : enums.verdict.VERDICT_PASS);
  put('action', 3);
  put('socket_kind', network ? 0 : enums.socket_kind.SOCKET_KIND_COUNT);
  put('family', network ? 2 : 0);
  put('port', network ? 443 : 0);
  put('protocol', network ? 6 : 0);
  b.set([10, 0, 0, i % 256], HEAD + fields.address.offset);
  b.write('java', HEAD + fields.comm.offset);
  put('program_length', strings.program.length);
  put('parent_length', strings.parent.length);
  put('cwd_length', strings.cwd.length);
  put('arguments_length', strings.arguments.length);
  put('object_length', strings.object.length);
  let at = HEAD + size;
  for (const text of Object.values(strings)) at += b.write(text, at, 'latin1');
  return b;
}
