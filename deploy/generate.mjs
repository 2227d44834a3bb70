// Writes what in deploy/ is made from something else: the schema of the chart's `config` (from the agent's settings),
// Grafana's dashboard and the plain manifests (from the chart). `make manifests`; with --check it writes nothing and fails if a file is stale.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configSchema } from '../dist/cli/config.js';
import { dashboard } from './dashboard.mjs';

const here = import.meta.dirname;
const NAMESPACE = 'belay-system';

const HEAD = `# Belay for a cluster, without Helm: kubectl apply -f deploy/crds -f deploy/manifests/belay.yaml
# Made from deploy/chart by "make manifests".
---
apiVersion: v1
kind: Namespace
metadata:
  name: ${NAMESPACE}
  labels:
    # The agent's pods need hostPID and hostPath.
    pod-security.kubernetes.io/enforce: privileged
`;

function valuesSchema() {
  const schema = JSON.parse(readFileSync(join(here, 'chart/values.schema.json'), 'utf8'));
  // a pod is given the directory of one runtime's socket
  schema.properties.config = { ...configSchema(), required: ['criSocket'] };
  return `${JSON.stringify(schema, undefined, 2)}\n`;
}

function manifests() {
  const renderer = join(here, '../build/render');
  const input = JSON.stringify({ values: {} });
  return HEAD + execFileSync(renderer, [join(here, 'chart'), NAMESPACE], { input, encoding: 'utf8' });
}

const check = process.argv[2] === '--check';
for (const [file, make] of [
  ['chart/values.schema.json', valuesSchema],
  ['chart/dashboards/belay.json', dashboard],
  ['manifests/belay.yaml', manifests],
]) {
  const path = join(here, file);
  const text = make();
  if (!check) writeFileSync(path, text);
  else if (readFileSync(path, 'utf8') !== text) {
    console.error(`deploy/${file} is out of date; run: make manifests`);
    process.exitCode = 1;
  }
}
