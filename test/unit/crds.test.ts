import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { definitionFiles } from '../../agent/policy/schema/crds.js';

const folder = fileURLToPath(new URL('../../deploy/crds/', import.meta.url));

test('the files in deploy/crds are what the source gives: if not, `make crds` writes them anew', () => {
  const kept = readdirSync(folder).map((name) => [name, readFileSync(folder + name, 'utf8')]);
  expect(Object.fromEntries(kept)).toEqual(Object.fromEntries(definitionFiles()));
});
