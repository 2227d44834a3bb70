// Writes deploy/crds from the built agent: `make crds`.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { definitionFiles } from '../dist/policy/schema/crds.js';

const folder = fileURLToPath(new URL('crds/', import.meta.url));
mkdirSync(folder, { recursive: true });
for (const name of readdirSync(folder)) rmSync(folder + name);
for (const [name, text] of definitionFiles()) writeFileSync(folder + name, text);
