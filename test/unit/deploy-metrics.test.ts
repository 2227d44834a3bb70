import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Metrics } from '../../agent/serve/metrics.js';
import { DEPLOY, only, renderChart } from '../chart/render.js';

/** Names of Belay's metrics in a text, and of what it may break them down by. */
const metricsIn = (text: string) => new Set(text.match(/\bbelay_[a-z_]+/g) ?? []);

const metrics = new Metrics({
  ...{ version: '1', kernel: '6.12' },
  present: () => ({
    policies: { in_force: 1, rejected: 0 },
    workloads: 1,
    policySets: 1,
    tableBytes: 1,
    watchers: 0,
    missed: 0,
    maps: [],
    programs: [],
  }),
});
const known = async () => {
  const names = [...(await metrics.text()).matchAll(/^# TYPE (\S+) (\S+)$/gm)];
  return new Set(
    names.flatMap(([, name = '', type]) =>
      type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
};

describe('what is looked at there is', () => {
  test('on the dashboard', async () => {
    const dashboard = JSON.parse(readFileSync(join(DEPLOY, 'chart/dashboards/belay.json'), 'utf8'));
    const panels = dashboard.panels as { targets?: { expr: string }[]; gridPos: { x: number; w: number } }[];
    const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(expressions.length).toBeGreaterThan(10);
    const all = await known();
    for (const expression of expressions) {
      expect(
        [...metricsIn(expression)].filter((name) => !all.has(name)),
        expression,
      ).toEqual([]);
      expect(metricsIn(expression).size, expression).toBeGreaterThan(0);
    }
    for (const { gridPos } of panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
  });

  test('by the alerts', async () => {
    const rule = only(renderChart({ prometheusRule: { enabled: true } }), 'PrometheusRule');
    const rules = rule.spec.groups.flatMap(({ rules }: { rules: { expr: string }[] }) => rules) as {
      expr: string;
    }[];
    const all = await known();
    for (const { expr } of rules) {
      expect(
        [...metricsIn(expr)].filter((name) => !all.has(name)),
        expr,
      ).toEqual([]);
    }
    expect(rules.length).toBeGreaterThan(7);
  });
});

test('the dashboard and secrets come along when they are asked for', () => {
  const objects = renderChart({ dashboard: { enabled: true }, secrets: ['siem'] });
  const map = objects.find(({ metadata }) => metadata.name === 'belay-dashboard');
  expect(JSON.parse(map?.data['belay.json'])).toMatchObject({ title: 'Belay' });
  expect(map?.metadata.labels).toMatchObject({ grafana_dashboard: '1' });
  const { containers, volumes } = only(objects, 'DaemonSet').spec.template.spec;
  expect(volumes).toContainEqual({ name: 'secret-siem', secret: { secretName: 'siem' } });
  expect(containers[0].volumeMounts).toContainEqual({
    ...{ name: 'secret-siem', mountPath: '/etc/belay-secrets/siem', readOnly: true },
  });
});
