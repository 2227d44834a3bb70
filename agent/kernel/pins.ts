import { existsSync, readdirSync, renameSync, rmdirSync, statfsSync, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { enums } from './abi.js';

const { SCHEMA } = enums.schema;

/** The kernel takes a program off in the background; one at a time is what its trampolines are used to. */
const DETACH_MS = 20;

/** Of a directory whose programs are being taken off: those left enforce, and are not all. A bpffs allows no dot in names. */
const ENDED = '_ended';

/** BPF_FS_MAGIC of linux/magic.h. */
const BPF_FS = 0xcafe4a11;

/** What is pinned cannot be taken over; it stays in force. */
export class CannotTakeOver extends Error {}

/** Where the pins of a schema are. */
export const schemaDirectory = (pin: string, schema: number = SCHEMA) => `${pin}/v${schema}`;

/** Why nothing can be pinned in a directory, which may be yet to be made. */
export function unpinnable(path: string): string | undefined {
  for (let at = path; ; at = dirname(at)) {
    const there = statSync(at, { throwIfNoEntry: false });
    if (there === undefined && at !== dirname(at)) continue;
    if (there?.isDirectory() === false) return `${at} is no directory`;
    if (statfsSync(at).type === BPF_FS) return undefined;
    return 'it is not on a bpffs; write /sys/fs/bpf/… (mount -t bpf bpf /sys/fs/bpf, where there is none)';
  }
}

/** Directories of pins, by what they are to this version. */
export interface Pins {
  /** The programs of an earlier schema, in force. */
  readonly before: string | undefined;
  /** What is left of an upgrade to this version, or from it, that did not come to its end. */
  readonly remains: readonly string[];
}

/**
 * What is pinned below a directory.
 * @throws CannotTakeOver where a later version's programs are in force instead of this one's
 */
export function survey(pin: string): Pins {
  const remains: string[] = [];
  const inForce: number[] = [];
  for (const name of existsSync(pin) ? readdirSync(pin) : []) {
    const schema = Number(/^v(\d+)$/.exec(name)?.[1]);
    if (readdirSync(`${pin}/${name}`).some((entry) => entry.startsWith('link_')) && schema > 0)
      inForce.push(schema);
    else if (schema !== SCHEMA) remains.push(`${pin}/${name}`);
  }
  inForce.sort((a, b) => a - b);
  const later = inForce.filter((schema) => schema > SCHEMA);
  if (later.length > 0 && !inForce.includes(SCHEMA)) {
    throw new CannotTakeOver(
      `below ${pin} a later version of Belay is in force (schema ${later.at(-1)}; this one's is ${SCHEMA}), and it ` +
        `stays in force. Start that version, or take it off first: belay uninstall --pin ${pin}`,
    );
  }
  const earlier = inForce.filter((schema) => schema < SCHEMA);
  const before = earlier.pop();
  remains.push(...[...earlier, ...later].map((schema) => schemaDirectory(pin, schema)));
  return { before: before === undefined ? undefined : schemaDirectory(pin, before), remains };
}

/** Unpins programs that were made from something else than what has this identity; nobody will adopt them. */
export function removeOtherPrograms(directory: string, identity: string): void {
  for (const name of readdirSync(directory)) {
    if (name.startsWith('prog_') && !name.startsWith(`prog_${identity}_`)) unlinkSync(`${directory}/${name}`);
  }
}

/** Says that what is in a directory is not all in force any more. @returns its new name */
export function markEnded(directory: string): string {
  renameSync(directory, directory + ENDED);
  return directory + ENDED;
}

/** Takes programs off, one at a time, and returns how many there were. The maps stay. */
export async function unpinPrograms(directory: string): Promise<number> {
  const links = readdirSync(directory).filter((name) => name.startsWith('link_'));
  for (const link of links) {
    unlinkSync(`${directory}/${link}`);
    await sleep(DETACH_MS);
  }
  return links.length;
}

/** All that is pinned in a directory, at once. */
export function removeDirectory(directory: string): void {
  for (const name of readdirSync(directory)) unlinkSync(`${directory}/${name}`);
  rmdirSync(directory);
}

/**
 * Takes Belay off this node: all that any version has pinned below a directory.
 * @returns how many programs that were
 * @throws Error where something else is in the directory, or no pins can be; nothing has been touched then
 */
export async function uninstall(pin: string): Promise<number> {
  if (!existsSync(pin)) {
    const why = unpinnable(pin);
    if (why === undefined) return 0;
    throw new Error(`there is no directory ${pin}, and there can be no pins there: ${why}`);
  }
  const names = readdirSync(pin);
  const strange = names.find((name) => !/^v\d+(_ended)?$/.test(name));
  if (strange !== undefined) {
    throw new Error(
      `${pin}/${strange} is not Belay's; give the directory that the agent was given with --pin`,
    );
  }
  let programs = 0;
  for (const name of names) {
    programs += await unpinPrograms(`${pin}/${name}`);
    removeDirectory(`${pin}/${name}`);
  }
  rmdirSync(pin);
  return programs;
}
