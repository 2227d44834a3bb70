// Writes the Grafana dashboard, deploy/chart/dashboards/belay.json: `make manifests`.
const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

const target = (expr, legendFormat, refId) => ({ datasource: DATASOURCE, expr, legendFormat, refId });
const letters = 'ABCDEFGH';

/** A panel; `queries` are pairs of expression and legend. */
const panel = (title, type, unit, width, queries, description) => ({
  ...{ title, type, description, datasource: DATASOURCE },
  fieldConfig: {
    defaults: { unit, ...(type === 'timeseries' && { custom: { fillOpacity: 10, showPoints: 'never' } }) },
    overrides: [],
  },
  options: type === 'timeseries' ? { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } } : {},
  targets: queries.map(([expr, legend], i) => target(expr, legend, letters[i])),
  width,
});

const ON = 'node=~"$node"';
const rate = (metric, by, more = '') => `sum by (${by}) (rate(${metric}{${ON}${more}}[$__rate_interval]))`;

const ROWS = [
  [
    'What happens',
    panel('Nodes with an agent', 'stat', 'none', 4, [[`count(belay_build_info{${ON}})`, '']]),
    panel('Policies in force', 'stat', 'none', 4, [[`max(belay_policies{${ON},state="in_force"})`, '']]),
    panel('Policies rejected', 'stat', 'none', 4, [[`max(belay_policies{${ON},state="rejected"})`, '']]),
    panel('Workloads', 'stat', 'none', 4, [[`sum(belay_workloads{${ON}})`, '']]),
    panel('Denied in an hour', 'stat', 'none', 4, [[`sum(increase(belay_denied_total{${ON}}[1h]))`, '']]),
    panel('Lost in an hour', 'stat', 'none', 4, [[`sum(increase(belay_events_lost_total{${ON}}[1h]))`, '']], 'Events that found no room; verdicts hold.'),
    panel('Denied, by node', 'timeseries', 'ops', 12, [[rate('belay_denied_total', 'node'), '{{node}}']]),
    panel('Events, by type and verdict', 'timeseries', 'ops', 12, [[rate('belay_events_total', 'type, verdict'), '{{type}} {{verdict}}']]),
  ],
  [
    'Where events go',
    panel('Delivered', 'timeseries', 'ops', 8, [[rate('belay_sink_delivered_total', 'sink'), '{{sink}}']]),
    panel('Waiting on disk', 'timeseries', 'bytes', 8, [[`sum by (sink) (belay_sink_spool_bytes{${ON}})`, '{{sink}}']]),
    panel('Dropped and counted', 'timeseries', 'ops', 8, [
      [rate('belay_sink_dropped_total', 'sink'), '{{sink}}'],
      [rate('belay_events_lost_total', 'ring'), 'ring {{ring}}'],
      [rate('belay_alerts_throttled_total', 'node'), 'throttled on {{node}}'],
    ]),
    panel('Failed attempts', 'timeseries', 'ops', 12, [[rate('belay_sink_failures_total', 'sink'), '{{sink}}']]),
    panel('Nodes whose events do not arrive', 'timeseries', 'none', 12, [[`count by (sink) (belay_sink_up{${ON}} == 0)`, '{{sink}}']]),
  ],
  [
    'The agents',
    panel('Time to put a change in force, 99 of 100', 'timeseries', 's', 8, [
      [`histogram_quantile(0.99, sum by (le) (rate(belay_apply_seconds_bucket{${ON}}[$__rate_interval])))`, 'p99'],
    ]),
    panel('Tables in the kernel', 'timeseries', 'bytes', 8, [[`belay_table_bytes{${ON}}`, '{{node}}']]),
    panel('What the programs could not do', 'timeseries', 'ops', 8, [[rate('belay_kernel_failures_total', 'failure'), '{{failure}}']]),
  ],
];

/** Panels in rows of 24 columns. */
function layout() {
  const panels = [];
  let y = 0;
  for (const [title, ...row] of ROWS) {
    panels.push({ type: 'row', title, collapsed: false, gridPos: { x: 0, y: y++, w: 24, h: 1 }, panels: [] });
    let x = 0;
    for (const { width, ...each } of row) {
      const h = each.type === 'stat' ? 4 : 8;
      if (x + width > 24) x = 0;
      panels.push({ ...each, gridPos: { x, y, w: width, h } });
      x += width;
      if (x === 24) y += h;
    }
  }
  return panels.map((each, id) => ({ id: id + 1, ...each }));
}

export const dashboard = () =>
  `${JSON.stringify(
    {
      uid: 'belay',
      title: 'Belay',
      tags: ['belay', 'security'],
      schemaVersion: 39,
      editable: true,
      time: { from: 'now-6h', to: 'now' },
      refresh: '1m',
      templating: {
        list: [
          { name: 'datasource', type: 'datasource', query: 'prometheus' },
          {
            ...{ name: 'node', type: 'query', datasource: DATASOURCE, multi: true, includeAll: true, refresh: 2 },
            query: { query: 'label_values(belay_build_info, node)', refId: 'node' },
            current: { text: 'All', value: '$__all' },
          },
        ],
      },
      panels: layout(),
    },
    undefined,
    2,
  )}\n`;
