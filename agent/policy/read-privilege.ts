import { asText, type Fields, short } from './fields.js';
import { COMMON, type Common, inherit } from './inherit.js';
import { readSources } from './matcher.js';
import type { CapabilityRule, PolicyKind, PresetRule } from './model.js';
import { CAPABILITIES, PRESETS, suggestion } from './vocabulary.js';

/** The rules of a `capabilities` section. */
export function readCapabilityRules(section: Fields, outer: Common, kind: PolicyKind): CapabilityRule[] {
  section.allow(['matchCapabilities', ...COMMON]);
  const common = inherit(section, outer, kind);
  return section
    .list('matchCapabilities', 'capabilities.matchCapabilities')
    .flatMap((item) => readCapabilityRule(item, common, kind) ?? []);
}

function readCapabilityRule(item: Fields, outer: Common, kind: PolicyKind): CapabilityRule | undefined {
  item.allow(['capability', 'fromSource', ...COMMON]);
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
  const name = written.toLowerCase().replace(/^cap_/, '');
  const capability = CAPABILITIES.indexOf(name);
  if (capability >= 0) return { ...rule, capability, name };
  const advice = suggestion(name, CAPABILITIES) || '; write a name from capabilities(7), without CAP_';
  item.source.error(node, `unknown capability "${short(written)}" in ${item.what}${advice}`);
  return undefined;
}

/** The rules of the `presets` list, which is its own section. */
export function readPresets(spec: Fields, outer: Common, kind: PolicyKind): PresetRule[] {
  return spec.list('presets', 'presets').flatMap((item) => readPreset(item, outer, kind) ?? []);
}

function readPreset(item: Fields, outer: Common, kind: PolicyKind): PresetRule | undefined {
  const source = item.source;
  item.allow(['name', ...COMMON]);
  item.required('name', `write one of ${PRESETS.join(', ')}`);
  const preset = item.has('name') ? item.choice('name', PRESETS) : undefined;
  const { action, ...common } = inherit(item, outer, kind);
  if (action !== 'Audit' && action !== 'Block') {
    const where = item.entry('action')?.value ?? item.node;
    source.error(
      where,
      `${item.what} cannot have the action ${action}; write action: Audit or action: Block on it`,
    );
    return undefined;
  }
  if (preset === undefined) return undefined;
  return { id: item.what, at: source.at(item.node), class: 'preset', preset, action, ...common };
}
