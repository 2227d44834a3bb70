import { asText, type Fields, short } from './fields.js';
import { type Common, inherit, warnBelayOnly } from './inherit.js';
import { readSources } from './matcher.js';
import type { CapabilityRule, EscapeRule, PolicyKind, PresetRule } from './model.js';
import { CAPABILITY_RULE, ESCAPE_RULE, PRESET_RULE, SECTIONS } from './schema/rules.js';
import { fieldNames } from './schema/shape.js';
import { CAPABILITIES, CAPABILITY_SPELLINGS, ESCAPES, PRESET_ACTIONS, PRESETS } from './schema/words.js';
import { suggestion } from './vocabulary.js';

/** The rules of a `capabilities` section. */
export function readCapabilityRules(section: Fields, outer: Common, kind: PolicyKind): CapabilityRule[] {
  section.allow(fieldNames(SECTIONS.capabilities));
  const common = inherit(section, outer, kind);
  return section
    .list('matchCapabilities', 'capabilities.matchCapabilities')
    .flatMap((item) => readCapabilityRule(item, common, kind) ?? []);
}

function readCapabilityRule(item: Fields, outer: Common, kind: PolicyKind): CapabilityRule | undefined {
  item.allow(fieldNames(CAPABILITY_RULE));
  const rule = {
    id: item.what,
    at: item.source.at(item.node),
    class: 'capabilities' as const,
    ...inherit(item, outer, kind),
    sources: readSources(item, kind),
  };
  const node = item.required('capability', 'write a capability like net_raw');
  const written = node && asText(item.source, node, `${item.what}.capability`);
  if (node === undefined || written === undefined) return undefined;
  const name = CAPABILITY_SPELLINGS.get(written);
  if (name !== undefined) return { ...rule, capability: CAPABILITIES.indexOf(name), name };
  const advice =
    suggestion(written.toLowerCase().replace(/^cap_/, ''), CAPABILITIES) ||
    '; write a name from capabilities(7), without CAP_';
  item.source.error(node, `unknown capability "${short(written)}" in ${item.what}${advice}`);
  return undefined;
}

/** The rules of an `escape` section. */
export function readEscapeRules(section: Fields, outer: Common, kind: PolicyKind): EscapeRule[] {
  section.allow(fieldNames(SECTIONS.escape));
  const common = inherit(section, outer, kind);
  return section.list('matchOperations', 'escape.matchOperations').flatMap((item) => {
    item.allow(fieldNames(ESCAPE_RULE));
    item.required('operation', `write one of ${ESCAPES.join(', ')}`);
    const operation = item.has('operation') ? item.choice('operation', ESCAPES) : undefined;
    const rule = {
      id: item.what,
      at: item.source.at(item.node),
      class: 'escape' as const,
      ...inherit(item, common, kind),
      sources: readSources(item, kind),
    };
    return operation === undefined ? [] : [{ ...rule, operation }];
  });
}

/** `drift` of a `process` section. */
export function readDrift(process: Fields, outer: Common, kind: PolicyKind): PresetRule[] {
  const action = process.has('drift') ? process.choice('drift', PRESET_ACTIONS) : undefined;
  if (action === undefined) return [];
  warnBelayOnly(process, kind, ['drift']);
  const at = process.source.at(process.entry('drift')?.key ?? process.node);
  return [
    { ...inherit(process, outer, kind), id: 'process.drift', at, class: 'preset', preset: 'drift', action },
  ];
}

/** The rules of the `presets` list, which is its own section. */
export function readPresets(spec: Fields, outer: Common, kind: PolicyKind): PresetRule[] {
  return spec.list('presets', 'presets').flatMap((item) => readPreset(item, outer, kind) ?? []);
}

function readPreset(item: Fields, outer: Common, kind: PolicyKind): PresetRule | undefined {
  const source = item.source;
  item.allow(fieldNames(PRESET_RULE));
  item.required('name', `write one of ${PRESETS.join(', ')}`);
  const preset = item.has('name') ? item.choice('name', PRESETS) : undefined;
  const { action: said, ...common } = inherit(item, outer, kind);
  const action = PRESET_ACTIONS.find((known) => known === said);
  if (action === undefined) {
    const where = item.entry('action')?.value ?? item.node;
    source.error(
      where,
      `${item.what} cannot have the action ${said}; write action: Audit or action: Block on it`,
    );
    return undefined;
  }
  if (preset === undefined) return undefined;
  return { id: item.what, at: source.at(item.node), class: 'preset', preset, action, ...common };
}
