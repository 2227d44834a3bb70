import { isScalar, isSeq, type Node } from 'yaml';
import { asText, Fields, short } from './fields.js';
import { isKubeArmor, warnBelayOnly } from './inherit.js';
import type { LabelRequirement, PolicyKind, PolicyScope, Selector } from './model.js';
import {
  CLUSTER_SPEC,
  CONTAINER_LABEL,
  CONTAINER_LIST_MARKS,
  HOST_PATTERN_LABEL,
  HOST_SPEC,
} from './schema/policies.js';
import { CONTAINER_GLOB } from './schema/rules.js';
import { fieldNames } from './schema/shape.js';
import { OPERATORS, PAIR_OPERATORS } from './schema/words.js';
import { suggestion } from './vocabulary.js';

/** The fields of both scopes are the same. */
const SELECTOR = CLUSTER_SPEC.properties.selector;

/** Which workloads the policy reaches, from `selector` or `nodeSelector` and `containers`. */
export function readSelector(spec: Fields, kind: PolicyKind, scope: PolicyScope): Selector {
  return scope === 'host' ? readNodeSelector(spec) : readPodSelector(spec, kind, scope);
}

function readNodeSelector(spec: Fields): Selector {
  // KubeArmor's schema demands it too: without it a policy meant for one node would fall on all.
  const node = spec.required(
    'nodeSelector',
    `write nodeSelector: {matchLabels: {kubernetes.io/hostname: "*"}} for every node`,
    spec.node,
  );
  const selector = node === undefined ? undefined : Fields.of(spec.source, node, 'spec.nodeSelector', node);
  selector?.allow(fieldNames(HOST_SPEC.properties.nodeSelector), labelHints(selector));
  const labels = readLabels(selector?.fields('matchLabels'));
  const pattern = labels.get(HOST_PATTERN_LABEL);
  const where = selector?.fields('matchLabels')?.entry(HOST_PATTERN_LABEL)?.value;
  if (pattern !== undefined && where != null) checkExpression(spec, where, pattern);
  return { labels, expressions: [], namespaces: [], containers: [] };
}

function checkExpression(spec: Fields, where: Node, pattern: string): void {
  try {
    if (pattern.length > 253) throw new SyntaxError('it is longer than a host name can be');
    new RegExp(pattern);
  } catch (error) {
    const why = error instanceof Error ? error.message : 'it cannot be read';
    spec.source.error(where, `${HOST_PATTERN_LABEL} is not a regular expression: ${short(why)}; correct it`);
  }
}

function readPodSelector(spec: Fields, kind: PolicyKind, scope: PolicyScope): Selector {
  const entry = spec.entry('selector');
  if (entry?.value == null) {
    const reach = scope === 'cluster' ? 'every workload of the cluster' : 'every workload of its namespace';
    spec.source.warn(
      entry?.key ?? spec.node,
      `the policy has no selector and so reaches ${reach}; write selector: {} if that is meant`,
    );
  }
  const selector = entry?.value == null ? undefined : spec.fields('selector', 'spec.selector');
  selector?.allow(fieldNames(SELECTOR), labelHints(selector));
  const labels = readLabels(selector?.fields('matchLabels'));
  const expressions: LabelRequirement[] = [];
  const namespaces: { operator: 'In' | 'NotIn'; values: readonly string[] }[] = [];
  for (const item of selector?.list('matchExpressions') ?? []) {
    const requirement = readRequirement(item, kind);
    if (requirement === undefined) continue;
    if (requirement.key !== 'namespace') expressions.push(requirement);
    else if (scope !== 'cluster') {
      spec.source.error(
        item.entry('key')?.value ?? item.node,
        `${item.what}.key "namespace" belongs to cluster kinds; a ${kind} is about its own namespace only`,
      );
    } else if ('values' in requirement) {
      namespaces.push({ operator: requirement.operator, values: requirement.values });
    } else {
      spec.source.error(
        item.entry('operator')?.value ?? item.node,
        `${item.what} asks of a namespace whether it exists; use In or NotIn`,
      );
    }
  }
  const listed = labels.get(CONTAINER_LABEL);
  labels.delete(CONTAINER_LABEL);
  return { labels, expressions, namespaces, containers: readContainers(spec, kind, listed) };
}

/** Labels written a level too high are the commonest slip. */
function labelHints(selector: Fields): Record<string, string> {
  const advice = (name: string) => `labels go under matchLabels: write matchLabels: {${name}: ...}`;
  const hints: Record<string, string> = {};
  for (const { name, value } of selector.entries()) {
    const known =
      /^(match|process$|file$|network$|action$|severity$|tags$|message$|capabilities$|escape$)/.test(name);
    if (known) hints[name] = 'move it out of the selector, to the left';
    else if (isScalar(value)) hints[name] = advice(name);
  }
  for (const name of fieldNames(SELECTOR)) delete hints[name];
  return hints;
}

function readLabels(fields: Fields | undefined): Map<string, string> {
  const labels = new Map<string, string>();
  for (const { name, value } of fields?.entries() ?? []) {
    if (fields === undefined) break;
    const source = fields.source;
    if (name === CONTAINER_LABEL && isSeq(value)) {
      source.error(value, `${CONTAINER_LABEL} must be text; put the brackets and all in quotes`);
      continue;
    }
    // An empty value is a label with an empty value, and for the container list it means all.
    const text = value === null ? '' : asText(source, value, `the label ${name}`);
    if (text !== undefined) labels.set(name, text);
  }
  return labels;
}

function readRequirement(item: Fields, kind: PolicyKind): LabelRequirement | undefined {
  item.allow(fieldNames(SELECTOR.properties.matchExpressions.items));
  const source = item.source;
  const keyNode = item.required('key', 'write key: label, or the name of a label');
  const key = keyNode && asText(source, keyNode, `${item.what}.key`);
  item.required('operator', 'write operator: In or operator: NotIn');
  const pseudo = key === 'label' || key === 'namespace';
  if (keyNode !== undefined && key !== undefined && !pseudo && isKubeArmor(kind)) {
    source.error(
      keyNode,
      `${item.what}.key cannot be "${short(key)}" in a ${kind}${suggestion(key, ['label', 'namespace']) || '; write key: label with values like app=web'}`,
    );
  }
  const operators = isKubeArmor(kind) || pseudo ? PAIR_OPERATORS : OPERATORS;
  const operator = item.has('operator') ? item.choice('operator', operators) : undefined;
  if (operator === 'Exists' || operator === 'DoesNotExist') {
    const values = item.entry('values')?.value;
    if (values != null && !(isSeq(values) && values.items.length === 0)) {
      source.error(values, `${item.what} needs no values with ${operator}; take them out`);
    }
    return key === undefined ? undefined : { key, operator };
  }
  item.required('values', 'list the values');
  const values = item.has('values') ? item.texts('values') : undefined;
  if (key === undefined || operator === undefined || values === undefined) return undefined;
  if (values.length === 0) {
    source.error(item.entry('values')?.value ?? item.node, `${item.what}.values is empty; list at least one`);
  }
  if (key === 'label') checkPairs(item);
  return { key, operator, values };
}

function checkPairs(item: Fields): void {
  for (const { node, index } of item.items('values') ?? []) {
    if (!isScalar(node) || typeof node.value !== 'string' || /^[^=]+=/.test(node.value)) continue;
    item.source.error(
      node,
      `${item.what}.values[${index}] "${short(node.value)}" is not of the form key=value; write the label so`,
    );
  }
}

/** Globs on container names: Belay's `containers`, or the text of KubeArmor's label, which looks like a list. */
function readContainers(spec: Fields, kind: PolicyKind, listed: string | undefined): string[] {
  warnBelayOnly(spec, kind, ['containers']);
  const edges = new RegExp(`^[${CONTAINER_LIST_MARKS}]+|[${CONTAINER_LIST_MARKS}]+$`, 'g');
  const named = (listed ?? '')
    .split(',')
    .map((name) => name.replace(edges, ''))
    .filter((name) => name !== '');
  const own: string[] = [];
  for (const { node, index } of spec.items('containers') ?? []) {
    const what = `spec.containers[${index}]`;
    const glob = asText(spec.source, node, what);
    if (glob === undefined) continue;
    if (new RegExp(CONTAINER_GLOB).test(glob)) own.push(glob);
    else
      spec.source.error(
        node,
        `${what} "${short(glob)}" is not a container's name; use letters, digits, "-", "*" and "?"`,
      );
  }
  if (own.length > 0 && named.length > 0) {
    spec.source.error(
      spec.entry('containers')?.key ?? spec.node,
      `containers are named both here and by the label ${CONTAINER_LABEL}; keep one of the two`,
    );
  }
  return own.length > 0 ? own : named;
}
