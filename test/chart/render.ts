import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';

/** Belay's chart, rendered by the templates' real engine (render.go). */

export const DEPLOY = resolve(import.meta.dirname, '../../deploy');
const RENDERER = resolve(import.meta.dirname, '../../build/render');

/** A Kubernetes object, as a test looks into it. */
// biome-ignore lint/suspicious/noExplicitAny: its shape is what is tested
export type Manifest = { apiVersion: string; kind: string; metadata: any } & Record<string, any>;

/** The objects that the chart makes of `values` over its own. */
export function renderChart(values: object = {}, namespace = 'belay-system'): Manifest[] {
  const text = execFileSync(RENDERER, [join(DEPLOY, 'chart'), namespace], {
    input: JSON.stringify({ values }),
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return readManifests(text);
}

export function readManifests(text: string): Manifest[] {
  return parseAllDocuments(text)
    .map((document) => {
      if ('errors' in document && document.errors[0]) throw document.errors[0];
      return document.toJS();
    })
    .filter((object) => object !== null);
}

export function readChartFile(name: string): unknown {
  return parse(readFileSync(join(DEPLOY, 'chart', name), 'utf8'));
}

/** The only object of a kind. */
export function only(objects: readonly Manifest[], kind: string): Manifest {
  const [found, another] = objects.filter((object) => object.kind === kind);
  if (found === undefined || another !== undefined) throw new Error(`not one ${kind}`);
  return found;
}
