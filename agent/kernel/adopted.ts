import { maps, structs } from './abi.js';
import type { NativeKernel } from './addon.js';
import type { Arena } from './arena.js';
import type { OnDemand } from './on-demand.js';

const { size: HEADER, fields } = structs.set_header;
const W = structs.workload;

export interface AdoptTo {
  readonly native: Pick<NativeKernel, 'read'>;
  /** The map's memory. */
  readonly workloads: Uint8Array;
  readonly arena: Arena;
  readonly onDemand: Pick<OnDemand, 'hold'>;
}

/**
 * Takes over the tables that an agent before this one left in force. Where a workload's can be none, nothing is in force for
 * it any more, until new ones are.
 * @returns why tables could not be taken over, each once
 * @throws CannotAttach
 */
export function adoptTables({ native, workloads, arena, onDemand }: AdoptTo): string[] {
  const view = new DataView(workloads.buffer, workloads.byteOffset, workloads.byteLength);
  const faults = new Map<number, string | undefined>();
  const adopt = (offset: number): string | undefined => {
    const header = arena.has(offset, HEADER) ? native.read('arena', offset, HEADER) : undefined;
    const size = header?.readUInt32LE(fields.size.offset) ?? HEADER;
    if (header === undefined || size < HEADER || !arena.has(offset, size))
      return `${size} bytes at ${offset} of the arena, which has ${maps.arena.valueSize}`;
    arena.adopt(offset, size);
    onDemand.hold(offset, header);
    return undefined;
  };
  for (let id = 0; id < maps.workloads.entries; id++) {
    const at = id * W.size + W.fields.set.offset;
    const offset = view.getUint32(at, true);
    if (offset === 0) continue;
    if (!faults.has(offset)) faults.set(offset, adopt(offset));
    if (faults.get(offset) !== undefined) view.setBigUint64(at, 0n, true);
  }
  return [...faults.values()].filter((fault) => fault !== undefined);
}
