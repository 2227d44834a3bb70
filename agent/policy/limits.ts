import { isMap, isScalar, isSeq, type Node } from 'yaml';
import type { Shape } from './schema/shape.js';
import type { Source } from './source.js';

/**
 * Warns where a policy is longer than its definition lets the API server take: lists, texts, numbers of labels. A file
 * may be; who means to apply it to a cluster should hear of it before.
 */
export function checkLimits(source: Source, node: Node | null, shape: Shape, what: string): void {
  if (node === null) return;
  if (shape.type === 'array') {
    if (!isSeq(node)) return;
    tooMany(source, node, what, node.items.length, shape.maxItems, 'items');
    node.items.slice(0, shape.maxItems).forEach((item, i) => {
      checkLimits(source, source.resolve(item), shape.items, `${what}[${i}]`);
    });
  } else if (shape.type === 'object') {
    if (!isMap(node)) return;
    const entries = source.entries(node, what);
    if ('additionalProperties' in shape) {
      tooMany(source, node, what, entries.length, shape.maxProperties, 'entries');
    }
    for (const { name, value } of entries) {
      const field = 'properties' in shape ? shape.properties[name] : shape.additionalProperties;
      if (field !== undefined) checkLimits(source, value, field, `${what}.${name}`);
    }
  } else if (shape.type === 'string' && isScalar(node) && typeof node.value === 'string') {
    const limit = shape.maxLength ?? Number.POSITIVE_INFINITY;
    // as the API server counts; the quick look spares most texts the slow one
    if (node.value.length > limit) tooMany(source, node, what, [...node.value].length, limit, 'characters');
  }
}

function tooMany(source: Source, node: Node, what: string, count: number, limit: number, of: string): void {
  if (count <= limit) return;
  source.warn(
    node,
    `${what} has ${count} ${of}, and the API server takes at most ${limit}; split it before a cluster is to have it`,
  );
}
