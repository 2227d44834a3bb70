import { hostname } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { InvalidArgumentError, Option } from 'commander';
import type { Node } from 'yaml';
import { redactionFault } from '../event/redact.js';
import { asText, Fields, short } from '../policy/fields.js';
import { readPolicyBytes, unreadable } from '../policy/files.js';
import type { Diagnostic } from '../policy/model.js';
import { byPosition } from '../policy/read.js';
import { decodePolicyFile, Exhausted, Source } from '../policy/source.js';
import { readSinks, sinksSchema } from '../sink/settings.js';
import { watchPath } from '../workload/watch-path.js';
import { servedWrongly } from './served-wrongly.js';
import { LIVE_SETTINGS, NAMES, type SettingName, type Settings, setting } from './settings.js';

/**
 * How `belay agent` is configured: flags, environment, a YAML file and defaults, the first that says anything
 * winning.
 *
 * In the composition root:
 *
 *     for (const option of configOptions()) command.addOption(option);
 *     command.addHelpText('after', configHelp());
 *     command.action((flags) => {
 *       const { settings, diagnostics } = loadConfig(flags, process.env);
 *       tell(log, diagnostics);                     // settings is undefined when one of them is an error
 *       const watch = watchConfig({
 *         flags, env: process.env, settings,
 *         onChange: ({ settings, changed, restart }) => …,
 *         onDiagnostics: (diagnostics) => tell(log, diagnostics),
 *       });
 *     });
 */

/** What the command line and its environment variables said; what they did not is absent. */
export type Flags = Partial<Settings> & { readonly config?: string };

type Environment = Readonly<Record<string, string | undefined>>;

/** What the file's contents are called in messages: it is also the chart's `config`. */
const WHAT = 'config';

/**
 * The options of `belay agent`, `--config` among them, each with its environment variable. None has a default:
 * that would hide what the file says.
 */
export function configOptions(): Option[] {
  const file = new Option('--config <file>', 'file with these settings (YAML); see below').env(
    'BELAY_CONFIG',
  );
  return [file, ...NAMES.filter((name) => setting(name).list === undefined).map(optionOf)];
}

function optionOf(name: SettingName): Option {
  const {
    about,
    value,
    choices,
    flag,
    integer,
    form,
    advice,
    default: byDefault,
    defaultAbout,
  } = setting(name);
  const words = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const otherwise = defaultAbout ?? byDefault;
  const option = new Option(
    `--${words} ${value ?? (flag ? '[boolean]' : `<${choices?.join('|')}>`)}`,
    otherwise === undefined ? about : `${about} (default: ${otherwise})`,
  ).env(`BELAY_${words.replaceAll('-', '_').toUpperCase()}`);
  if (choices !== undefined) return option.choices(choices);
  if (flag) {
    // Not a plain flag: a variable could not say false.
    return option.preset('true').argParser((text) => {
      if (text !== 'true' && text !== 'false') throw new InvalidArgumentError('Write true or false.');
      return text === 'true';
    });
  }
  if (integer) {
    return option.argParser((text) => {
      const { least, most } = integer;
      const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
      if (!(value >= least && value <= most))
        throw new InvalidArgumentError(`Write a number from ${least} to ${most}.`);
      return value;
    });
  }
  return option.argParser((text) => {
    if (text === '') throw new InvalidArgumentError('It is empty.');
    if (form && !form.test(text)) throw new InvalidArgumentError(`Write ${advice}.`);
    return text;
  });
}

/** What `belay agent --help` says of the file. */
export function configHelp(): string {
  const live = LIVE_SETTINGS.join(', ');
  return `
The configuration file holds settings by the names of the options, in one word: filePosture: block. Lists stand only there:
${NAMES.flatMap((name) => (setting(name).list ? `  ${name}: ${setting(name).about}` : [])).join('\n')}
Options come before the environment, the environment before the file. While the agent runs, new values of
${live.replace(/, (\w+)$/, ' and $1')}
take effect at once; those of the others when it starts again.`;
}

/** JSON schema of the configuration file, which is also the chart's `config`. */
export function configSchema(): object {
  const properties = NAMES.map((name) => {
    const { about, choices, flag, integer, form, list, default: byDefault, defaultAbout } = setting(name);
    if (list === 'sinks') return [name, { description: about, ...sinksSchema() }];
    if (list) return [name, { description: about, type: 'array', items: { type: 'string', minLength: 1 } }];
    const type = flag
      ? { type: 'boolean' }
      : integer
        ? { type: 'integer', minimum: integer.least, maximum: integer.most }
        : choices
          ? { enum: choices }
          : { type: 'string', minLength: 1 };
    const description = defaultAbout === undefined ? about : `${about} (default: ${defaultAbout})`;
    const more = {
      ...(form && { pattern: form.source }),
      ...(byDefault !== undefined && { default: byDefault }),
    };
    return [name, { description, ...type, ...more }];
  });
  return { type: 'object', additionalProperties: false, properties: Object.fromEntries(properties) };
}

export interface ConfigFile {
  /** What the file says and is in order. */
  readonly values: Partial<Settings>;
  /** In the order of the text. */
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * Reads a configuration file's text. Pure, and never throws: every fault becomes a diagnostic at the line and
 * column of the field or value concerned. A file without settings is in order.
 */
export function readConfig(text: string, file: string): ConfigFile {
  const source = new Source(text, file);
  const [document, ...others] = source.documents;
  let values: Partial<Settings> = {};
  try {
    for (const each of source.documents) source.reportSyntax(each);
    if (document !== undefined && source.errors === 0) {
      source.enter(document);
      for (const { contents } of others)
        if (contents !== null)
          source.error(contents, 'a second document; the file holds one configuration, so join the two');
      const node = document.contents && source.resolve(document.contents);
      if (node) values = readFields(source, node);
    }
  } catch (error) {
    if (!(error instanceof Exhausted)) throw error;
    source.error(0, 'the aliases expand without end; write out what they stand for');
  }
  return { values, diagnostics: source.diagnostics.toSorted(byPosition) };
}

function readFields(source: Source, node: Node): Partial<Settings> {
  const fields = Fields.of(source, node, WHAT, node);
  fields?.allow(NAMES, { config: 'the file cannot name another' });
  const values = NAMES.map((name) => [name, fields && readField(fields, name)] as const);
  return Object.fromEntries(values.filter(([, value]) => value !== undefined));
}

function readField(fields: Fields, name: SettingName): Settings[SettingName] {
  const { choices, flag, integer, form, advice, list } = setting(name);
  if (list === 'sinks') {
    const listed = fields.value(name);
    return listed && readSinks(fields.source, listed, `${WHAT}.${name}`);
  }
  if (list) return readExpressions(fields, name);
  if (flag) return fields.flag(name);
  if (integer) return fields.integer(name, integer.least, integer.most);
  if (choices) return fields.choice(name, choices);
  const node = fields.value(name);
  const text = node && asText(fields.source, node, `${WHAT}.${name}`);
  if (node === undefined || text === undefined) return undefined;
  if (text !== '' && (form === undefined || form.test(text))) return text;
  const fault =
    text === '' ? 'is empty; leave it out instead' : `cannot be "${short(text)}"; write ${advice}`;
  fields.source.error(node, `${WHAT}.${name} ${fault}`);
  return undefined;
}

function readExpressions(fields: Fields, name: SettingName): readonly string[] | undefined {
  return fields.items(name)?.flatMap(({ node, index }) => {
    const what = `${WHAT}.${name}[${index}]`;
    const text = asText(fields.source, node, what);
    const fault = text === undefined ? undefined : redactionFault(text);
    if (fault !== undefined) fields.source.error(node, `${what} is no RE2 expression: ${fault}`);
    return text === undefined || fault !== undefined ? [] : [text];
  });
}

export interface Config {
  /** Undefined when one of the diagnostics is an error. */
  readonly settings: Settings | undefined;
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * The settings in force at the start: `flags` (commander's values, which hold its variables too), then the file that
 * `flags.config` names, then defaults.
 */
export function loadConfig(flags: Flags, env: Environment): Config {
  const text = flags.config === undefined ? undefined : readText(flags.config);
  return settle(flags, env, text);
}

/** A file's text, or why there is none. */
type Text = { readonly text: string } | { readonly fault: Diagnostic };

function readText(file: string): Text {
  try {
    return decodePolicyFile(readPolicyBytes(file), file);
  } catch (error) {
    return { fault: { at: { file, line: 1, column: 1 }, severity: 'error', message: unreadable(error) } };
  }
}

function settle(flags: Flags, env: Environment, text: Text | undefined): Config {
  const file: ConfigFile =
    text === undefined
      ? { values: {}, diagnostics: [] }
      : 'fault' in text
        ? { values: {}, diagnostics: [text.fault] }
        : readConfig(text.text, flags.config ?? '');
  if (file.diagnostics.some(({ severity }) => severity === 'error'))
    return { settings: undefined, diagnostics: file.diagnostics };
  const values = NAMES.map((name) => {
    const otherwise = setting(name).list ? [] : setting(name).default;
    return [name, flags[name] ?? file.values[name] ?? otherwise];
  });
  const given = Object.fromEntries(values) as Settings;
  const settings: Settings = { ...given, node: given.node ?? (env.NODE_NAME || hostname().toLowerCase()) };
  const diagnostics = [...file.diagnostics];
  if (!settings.kubernetes) {
    const missing = (['policies', 'workloads'] as const).filter((name) => settings[name] === undefined);
    for (const name of missing) {
      const at = { file: flags.config ?? 'belay agent', line: 1, column: 1 };
      const message = `neither ${name} nor kubernetes is set; give --${name}, or say kubernetes: true`;
      diagnostics.push({ at, severity: 'error', message });
    }
    if (missing.length > 0) return { settings: undefined, diagnostics };
  }
  const wrong = servedWrongly(settings);
  for (const message of wrong) {
    const at = { file: flags.config ?? 'belay agent', line: 1, column: 1 };
    diagnostics.push({ at, severity: 'error', message });
  }
  return { settings: wrong.length > 0 ? undefined : settings, diagnostics };
}

export interface ConfigChange {
  /** What to run with now: the live settings' new values, and of all others those that the agent started with. */
  readonly settings: Settings;
  /** Live settings that are different from before. */
  readonly changed: readonly SettingName[];
  /** Settings that are not what the agent started with, and wait until it starts again. */
  readonly restart: readonly SettingName[];
}

export interface ConfigWatch {
  readonly flags: Flags;
  readonly env: Environment;
  /** What the agent started with. */
  readonly settings: Settings;
  readonly onChange: (change: ConfigChange) => void;
  /** What is wrong with the file's new text; if it is an error, all stays as it was. */
  readonly onDiagnostics: (diagnostics: readonly Diagnostic[]) => void;
}

/** Looks after the file that `flags.config` names, if any: a mounted ConfigMap's too. */
export function watchConfig(options: ConfigWatch): { close(): void } {
  const { flags, env, settings: first, onChange, onDiagnostics } = options;
  const file = flags.config;
  if (file === undefined) return { close: () => {} };
  let current = first;
  let waiting = '';
  let seen: string | undefined;
  return watchPath(file, () => {
    const text = readText(file);
    // The same text has been dealt with, here or at the start, where it was in order.
    const identity = JSON.stringify(text);
    if (identity === seen) return;
    const initial = seen === undefined;
    seen = identity;
    const { settings: next, diagnostics } = settle(flags, env, text);
    const same =
      initial && next !== undefined && NAMES.every((name) => isDeepStrictEqual(next[name], first[name]));
    if (diagnostics.length > 0 && !same) onDiagnostics(diagnostics);
    if (next === undefined) return;
    const changed = LIVE_SETTINGS.filter((name) => !isDeepStrictEqual(next[name], current[name]));
    const restart = NAMES.filter(
      (name) => !setting(name).live && !isDeepStrictEqual(next[name], first[name]),
    );
    if (changed.length === 0 && restart.join() === waiting) return;
    waiting = restart.join();
    current = { ...first, ...Object.fromEntries(LIVE_SETTINGS.map((name) => [name, next[name]])) };
    onChange({ settings: current, changed, restart });
  });
}
