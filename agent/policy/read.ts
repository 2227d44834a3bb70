import { isScalar, type Node } from 'yaml';
import { Fields, short, typeName } from './fields.js';
import { DEFAULTS, inherit, isKubeArmor, warnBelayOnly } from './inherit.js';
import { checkLimits } from './limits.js';
import type { Diagnostic, Policy, PolicyKind, Rule } from './model.js';
import { readNameRules } from './read-names.js';
import { readNetworkRules } from './read-network.js';
import { readCapabilityRules, readDrift, readEscapeRules, readPresets } from './read-privilege.js';
import { readSelector } from './read-selector.js';
import { readSyscallRules } from './read-syscalls.js';
import { POLICIES } from './schema/policies.js';
import { fieldNames } from './schema/shape.js';
import { ACTIVITIES, MODES } from './schema/words.js';
import { Exhausted, MAX_FILE_BYTES, Source, tooLong } from './source.js';
import { KINDS, suggestion } from './vocabulary.js';

/**
 * Reads all policies of a YAML text of one or more documents (or Kubernetes lists). Pure, and never throws: every
 * fault becomes a diagnostic at the line and column of the field or value concerned. A policy with an
 * error is rejected whole; the others of the text are not affected. Diagnostics come in the order of the text.
 */
export function readPolicies(text: string, file: string): { policies: Policy[]; diagnostics: Diagnostic[] } {
  if (text.length > MAX_FILE_BYTES) return { policies: [], diagnostics: [tooLong(file)] };
  const source = new Source(text, file);
  const policies: Policy[] = [];
  let last: Node | number = 0;
  let found = source.unreadable;
  try {
    for (const document of source.documents) {
      const contents = document.contents;
      if (source.reportSyntax(document, '; the policies of this document are not read')) {
        found = true;
        continue;
      }
      if (contents === null || (isScalar(contents) && contents.value === null)) continue;
      last = contents;
      found = true;
      const before = source.errors;
      source.enter(document);
      // A broken alias may belong to any policy of the document, so none of them is taken.
      const aliasesHold = source.errors === before;
      readObject(source, contents, aliasesHold ? policies : []);
    }
    if (!found) source.error(last, 'there is no policy in this file; write one, or take the file out');
  } catch (error) {
    if (!(error instanceof Exhausted)) throw error;
    source.error(last, 'the aliases of this document expand without end; write out what they stand for');
    policies.length = 0;
  }
  return { policies, diagnostics: source.diagnostics.toSorted(byPosition) };
}

/** By file, line and column; errors before warnings at the same place. */
export function byPosition(a: Diagnostic, b: Diagnostic): number {
  const files = a.at.file < b.at.file ? -1 : a.at.file > b.at.file ? 1 : 0;
  const places = a.at.line - b.at.line || a.at.column - b.at.column;
  return files || places || a.severity.localeCompare(b.severity);
}

/** A policy, or a list of them as `kubectl get -o yaml` prints it. */
function readObject(source: Source, node: Node, policies: Policy[], nested = false): void {
  const resolved = source.resolve(node);
  const object = resolved === null ? undefined : Fields.of(source, resolved, 'the policy', resolved);
  if (object === undefined) return;
  const kind = plain(object, 'kind');
  if (!nested && object.has('items') && kind?.endsWith('List')) {
    for (const { node: item } of object.items('items') ?? []) readObject(source, item, policies, true);
    return;
  }
  const before = source.errors;
  const policy = readPolicy(object, kind);
  if (policy !== undefined && source.errors === before) policies.push(policy);
}

function plain(fields: Fields, name: string): string | undefined {
  const node = fields.entry(name)?.value;
  return isScalar(node) && typeof node.value === 'string' ? node.value : undefined;
}

function readPolicy(object: Fields, written: string | undefined): Policy | undefined {
  const kind = readKind(object, written);
  if (kind === undefined) return undefined;
  const { api, scope } = KINDS[kind];
  const source = object.source;
  const before = source.errors;
  object.allow(fieldNames(POLICIES[scope]));
  const { name, namespace } = readMetadata(object, kind);
  const specNode = object.required('spec', 'write the rules under spec');
  const spec = specNode && Fields.of(source, specNode, 'spec', specNode);
  if (spec === undefined) return undefined;
  allowSpec(spec, kind);
  const mode = spec.choice('mode', MODES) ?? 'Enforce';
  const selector = readSelector(spec, kind, scope);
  const rules = readRules(spec, kind);
  // what is at fault is not measured: its faults would be told twice
  if (source.errors === before && !isKubeArmor(kind)) {
    checkLimits(source, spec.node, POLICIES[scope].properties.spec, 'spec');
  }
  const policy: Policy = {
    apiVersion: api,
    kind,
    scope,
    namespace,
    name: name ?? '',
    at: source.at(object.node),
    mode,
    selector,
    rules,
  };
  if (spec.choice('status', ACTIVITIES) !== 'Inactive') return policy;
  source.warn(spec.entry('status')?.key ?? spec.node, 'the policy is Inactive and so has no effect');
  return undefined;
}

/** Of kinds that are not read: how to say the same. */
const INSTEAD: ReadonlyMap<string, string> = new Map([
  ['KubeArmorNetworkPolicy', '; write a HostPolicy with network.egress and network.ingress'],
]);

function readKind(object: Fields, written: string | undefined): PolicyKind | undefined {
  const source = object.source;
  const known = Object.keys(KINDS) as PolicyKind[];
  const api = plain(object, 'apiVersion');
  const ours = api?.startsWith('security.belay.dev/') || api?.startsWith('security.kubearmor.com/');
  const kind = known.find((name) => name === written);
  if (kind === undefined) {
    const node = object.entry('kind')?.value;
    if (node != null && written === undefined) {
      source.error(node, `kind must be text, not ${typeName(node)}; write kind: WorkloadPolicy`);
    } else if (written === undefined) {
      source.error(
        object.node,
        'this is not a policy: it has no kind; write kind: WorkloadPolicy, or take it out',
      );
    } else {
      const near =
        INSTEAD.get(written) ?? (suggestion(written, known) || `; write one of ${known.join(', ')}`);
      const what = ours ? `unknown kind "${short(written)}"` : `this is a ${short(written)}, not a policy`;
      source.error(node ?? object.node, `${what}${near}`);
    }
    return undefined;
  }
  const node = object.required('apiVersion', `write apiVersion: ${KINDS[kind].api}`);
  if (node !== undefined && api !== KINDS[kind].api) {
    const shown = api === undefined ? typeName(node) : `"${short(api)}"`;
    source.error(node, `apiVersion of a ${kind} cannot be ${shown}; write apiVersion: ${KINDS[kind].api}`);
  }
  return kind;
}

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** What the API server writes into metadata is passed over; a policy may have been read back from a cluster. */
function readMetadata(object: Fields, kind: PolicyKind): { name: string | undefined; namespace: string } {
  const source = object.source;
  const node = object.required('metadata', 'write metadata: {name: ...}');
  const metadata = node && Fields.of(source, node, 'metadata', node);
  if (metadata === undefined) return { name: undefined, namespace: '' };
  metadata.allow(METADATA);
  const nameNode = metadata.required('name', 'give the policy a name');
  const name = nameNode && metadata.text('name');
  if (nameNode !== undefined && name !== undefined && (name.length > 253 || !SUBDOMAIN.test(name))) {
    source.error(
      nameNode,
      `metadata.name "${short(name)}" is not a valid name; use lower-case letters, digits, "-" and "." (at most 253)`,
    );
  }
  for (const map of ['labels', 'annotations']) {
    const fields = metadata.fields(map);
    for (const key of fields?.names ?? []) fields?.text(key);
  }
  const namespace = metadata.text('namespace');
  const where = metadata.entry('namespace')?.value;
  if (KINDS[kind].scope !== 'namespace') {
    if (where != null) source.warn(where, `a ${kind} has no namespace; it is ignored, so take it out`);
    return { name, namespace: '' };
  }
  if (where != null && namespace !== undefined && (namespace.length > 63 || !LABEL.test(namespace))) {
    source.error(
      where,
      `metadata.namespace "${short(namespace)}" is not a namespace's name; use lower-case letters, digits and "-" (at most 63)`,
    );
  }
  return { name, namespace: namespace ?? 'default' };
}

const METADATA = [
  'name',
  'namespace',
  'labels',
  'annotations',
  'creationTimestamp',
  'deletionGracePeriodSeconds',
  'deletionTimestamp',
  'finalizers',
  'generateName',
  'generation',
  'managedFields',
  'ownerReferences',
  'resourceVersion',
  'selfLink',
  'uid',
];

function allowSpec(spec: Fields, kind: PolicyKind): void {
  const selector = KINDS[kind].scope === 'host' ? 'nodeSelector' : 'selector';
  const other = selector === 'selector' ? 'nodeSelector' : 'selector';
  spec.allow(fieldNames(POLICIES[KINDS[kind].scope].properties.spec), {
    [other]: `a ${kind} selects by ${selector}`,
    matchLabels: `labels go under ${selector}: {matchLabels: ...}`,
  });
  warnBelayOnly(spec, kind, ['mode', 'escape']);
  for (const name of ['apparmor', 'selinux']) {
    const entry = spec.entry(name);
    if (spec.text(name) !== undefined && entry !== undefined)
      spec.source.warn(entry.key, `${name} has no effect here; write its rules as process and file rules`);
  }
}

function readRules(spec: Fields, kind: PolicyKind): Rule[] {
  const common = inherit(spec, DEFAULTS, kind);
  const section = (name: string): Fields | undefined => spec.fields(name, name);
  const process = section('process');
  const file = section('file');
  const network = section('network');
  const capabilities = section('capabilities');
  const escapes = section('escape');
  const syscalls = section('syscalls');
  const before = spec.source.diagnostics.length;
  const rules: Rule[] = [
    ...(process === undefined
      ? []
      : [...readNameRules(process, 'process', common, kind), ...readDrift(process, common, kind)]),
    ...(file === undefined ? [] : readNameRules(file, 'file', common, kind)),
    ...(network === undefined ? [] : readNetworkRules(network, common, kind)),
    ...(capabilities === undefined ? [] : readCapabilityRules(capabilities, common, kind)),
    ...(syscalls === undefined ? [] : readSyscallRules(syscalls, common, kind)),
    ...(escapes === undefined ? [] : readEscapeRules(escapes, common, kind)),
    ...readPresets(spec, common, kind),
  ];
  const explained = spec.source.diagnostics.length > before;
  if (rules.length === 0 && !explained) {
    spec.source.warn(
      spec.node,
      `the policy has no rules and so no effect; write some under process, file or network`,
    );
  }
  return rules;
}
