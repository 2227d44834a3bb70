// Writes agent/kernel/abi.ts: the layouts and numbers that the programs and the agent share, read from the BTF of
// the built object, so that they are written down once, in bpf/*.h.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';

const [object, output = 'agent/kernel/abi.ts'] = process.argv.slice(2);
const { types } = JSON.parse(
  execFileSync('bpftool', ['btf', 'dump', 'file', object, '-j'], { maxBuffer: 64 << 20, encoding: 'utf8' }),
);
const byId = new Map(types.map((t) => [t.id, t]));
const ENUMS = [
  'operation', 'ring', 'verdict', 'event_flag', 'failure', 'action', 'condition', 'domain', 'call', 'decide', 'column',
  'preset', 'socket_kind', 'escape', 'binding_flag', 'built_in_rule', 'schema', 'carried', 'visible',
];
const STRUCTS = ['event', 'workload', 'fold', 'set_header', 'rule', 'decision', 'entry', 'original', 'root_key', 'settings',
  'binding', 'subject', 'receiver', 'pod_uid', 'container_id', 'cgroup_path', 'child', 'ancestor', 'credentials', 'credentials_change',
];
const LIMITS = ['workloads', 'folds', 'arena', 'pods', 'containers', 'cgroup_paths'];

function sizeOf(id) {
  const t = byId.get(id);
  if (t.kind === 'PTR') return 8;
  if (t.kind === 'ARRAY') return t.nr_elems * sizeOf(t.type_id);
  if (t.size !== undefined) return t.size;
  return sizeOf(t.type_id);
}

function find(kind, name) {
  const found = types.find((t) => t.kind === kind && t.name === name);
  if (!found) throw new Error(`${object} has no ${kind.toLowerCase()} ${name}`);
  return found;
}

const lines = ['// Generated from the built BPF object by native/abi.mjs; not to be edited.', '', 'export const enums = {'];
for (const name of ENUMS) {
  lines.push(`  ${name}: {`);
  for (const v of find('ENUM', name).values) lines.push(`    ${v.name}: ${v.val},`);
  lines.push('  },');
}
lines.push('} as const;', '', '/** Offsets and sizes in bytes. */', 'export const structs = {');
for (const name of STRUCTS) {
  const t = find('STRUCT', name);
  lines.push(`  ${name}: {`, `    size: ${t.size},`, '    fields: {');
  for (const m of t.members) {
    lines.push(`      ${m.name}: { offset: ${m.bits_offset / 8}, size: ${sizeOf(m.type_id)} },`);
  }
  lines.push('    },', '  },');
}
lines.push('} as const;', '');

// A map's limits are the array lengths that its definition's members point to.
const maps = types.find((t) => t.kind === 'DATASEC' && t.name === '.maps');
lines.push('/** Of the maps: entries, and bytes of a key and of a value. */', 'export const maps = {');
for (const name of LIMITS) {
  const variable = maps.vars.map((v) => byId.get(v.type_id)).find((v) => v.name === name);
  const definition = byId.get(variable.type_id);
  const limit = (member) => {
    const m = definition.members.find((x) => x.name === member);
    return m && byId.get(byId.get(m.type_id).type_id);
  };
  const value = limit('value');
  const size = value ? sizeOf(value.id) : limit('value_size').nr_elems;
  const key = sizeOf(limit('key').id);
  lines.push(`  ${name}: { entries: ${limit('max_entries').nr_elems}, keySize: ${key}, valueSize: ${size} },`);
}
lines.push('} as const;', '');
mkdirSync('agent/kernel', { recursive: true });
writeFileSync(output, lines.join('\n'));
