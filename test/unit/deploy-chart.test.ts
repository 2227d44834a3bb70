import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, test } from 'vitest';
import { configSchema, readConfig } from '../../agent/cli/config.js';
import { LIVE_SETTINGS } from '../../agent/cli/settings.js';
import { schemaFaults } from '../chart/kubernetes-schema.js';
import { DEPLOY, type Manifest, only, readChartFile, readManifests, renderChart } from '../chart/render.js';

const EVERYTHING = {
  image: { repository: 'registry.example/belay', digest: `sha256:${'0'.repeat(64)}` },
  imagePullSecrets: [{ name: 'pull' }],
  nodeSelector: { pool: 'web' },
  podMonitor: { enabled: true, labels: { release: 'prometheus' } },
  prometheusRule: { enabled: true, labels: { release: 'prometheus' } },
  dashboard: { enabled: true },
  secrets: ['siem', 'kafka-ca'],
  networkPolicy: {
    sinks: [{ to: [{ ipBlock: { cidr: '10.0.0.7/32' } }], ports: [{ port: 6514, protocol: 'TCP' }] }],
    metricsFrom: [{ namespaceSelector: { matchLabels: { name: 'monitoring' } } }],
  },
};
const CASES: readonly (readonly [string, object])[] = [
  ['as it comes', {}],
  ['with everything', EVERYTHING],
  ['without metrics', { config: { metricsAddress: null } }],
  ['without what is optional', { admissionPolicy: { enabled: false }, networkPolicy: { enabled: false } }],
  ['while it is taken off', { uninstall: true }],
];

const podOf = (objects: readonly Manifest[]) => only(objects, 'DaemonSet').spec.template.spec;
const agentOf = (objects: readonly Manifest[]) => podOf(objects).containers[0];

/** Prometheus' kinds are in no schema of Kubernetes' own. */
const known = ({ apiVersion }: Manifest) => !apiVersion.startsWith('monitoring.coreos.com/');

describe('the chart', () => {
  test.each(CASES)('makes objects that Kubernetes takes, %s', (_, values) => {
    expect(renderChart(values).filter(known).flatMap(schemaFaults)).toEqual([]);
  });

  test('is checked by something that sees mistakes', () => {
    const objects = renderChart();
    agentOf(objects).imagePulPolicy = 'Never';
    podOf(objects).hostPID = 'yes';
    const faults = objects.flatMap(schemaFaults).join('\n');
    expect(faults).toContain('containers.0.imagePulPolicy is unknown');
    expect(faults).toContain('hostPID');
  });

  test.each(CASES)('uses a namespace of its own and no name twice, %s', (_, values) => {
    const objects = renderChart(values, 'elsewhere');
    const names = objects.map(({ kind, metadata }) => `${kind} ${metadata.namespace} ${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
    expect(JSON.stringify(objects)).not.toContain('belay-system');
  });

  test('has the version of the agent', () => {
    const { version } = JSON.parse(readFileSync(join(DEPLOY, '../package.json'), 'utf8'));
    expect(readChartFile('Chart.yaml')).toMatchObject({ version, appVersion: version });
  });

  test('has its generated files up to date: make manifests', () => {
    execFileSync('node', [join(DEPLOY, 'generate.mjs'), '--check'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  });

  test('brings the definitions of the kinds along', () => {
    const kinds = readdirSync(join(DEPLOY, 'chart/crds')).flatMap((name) =>
      readManifests(readFileSync(join(DEPLOY, 'chart/crds', name), 'utf8')),
    );
    expect(kinds.map(({ spec }) => spec.names.kind).toSorted()).toEqual([
      'ClusterWorkloadPolicy',
      'HostPolicy',
      'NodeEnforcement',
      'WorkloadPolicy',
    ]);
  });

  test('is told by a digest which image it is, before a tag, before its own version', () => {
    const image = (values: object) => agentOf(renderChart({ image: values })).image;
    expect(image({})).toBe('belay:0.1.0');
    expect(image({ tag: 'x' })).toBe('belay:x');
    expect(image({ tag: 'x', digest: 'sha256:1' })).toBe('belay@sha256:1');
  });
});

describe('the values', () => {
  const schema = JSON.parse(readFileSync(join(DEPLOY, 'chart/values.schema.json'), 'utf8'));
  const valid = new Ajv({ allErrors: true }).compile(schema);
  const values = readChartFile('values.yaml') as Record<string, object>;

  test("of the chart itself are in order, and their schema knows the agent's settings", () => {
    expect(valid(values), JSON.stringify(valid.errors)).toBe(true);
    const { required, ...settings } = schema.properties.config;
    expect(settings).toEqual(JSON.parse(JSON.stringify(configSchema())));
    expect(required).toEqual(['criSocket']);
    expect(Object.keys(schema.properties).filter((name) => !(name in values))).toEqual(['global']);
  });

  test.each([
    ['an unknown value', { imagee: {} }],
    ['an unknown setting', { config: { criSocket: '/run/a', filePostures: 'block' } }],
    ['a wrong posture', { config: { criSocket: '/run/a', filePosture: 'deny' } }],
    ['no runtime', { config: { kubernetes: true } }],
    ['a port without a colon', { config: { criSocket: '/run/a', metricsAddress: '9095' } }],
    ['a tag with a slash', { image: { repository: 'belay', tag: 'a/b' } }],
    ['no agent at all that may be down', { maxUnavailable: 0 }],
    ['a port that is none', { networkPolicy: { apiServerPorts: [70000] } }],
  ])('are refused with %s', (_, wrong) => {
    expect(valid({ ...values, ...wrong })).toBe(false);
  });
});

describe('the configuration', () => {
  const fileOf = (objects: readonly Manifest[]) => only(objects, 'ConfigMap').data['config.yaml'];
  const stampOf = (values: object) =>
    only(renderChart(values), 'DaemonSet').spec.template.metadata.annotations['belay.dev/config'];

  test('reaches the agent as it was written', () => {
    const config = { unknownPosture: 'block', hostPolicies: false, clusterName: 'on' };
    const { values, diagnostics } = readConfig(fileOf(renderChart({ config })), 'config.yaml');
    expect(diagnostics).toEqual([]);
    expect(values).toEqual({ ...(readChartFile('values.yaml') as Record<string, object>).config, ...config });
  });

  test('rolls the agents when, and only when, they cannot take a setting while they run', () => {
    const { properties } = configSchema() as {
      properties: Record<string, { type?: string; enum?: string[] }>;
    };
    const before = stampOf({});
    for (const [name, { type, enum: choices }] of Object.entries(properties)) {
      const value = choices ? choices[1] : type === 'boolean' ? name !== 'kubernetes' : '/other/thing';
      const same = stampOf({ config: { [name]: name === 'kubernetes' ? false : value } }) === before;
      expect(same, name).toBe((LIVE_SETTINGS as readonly string[]).includes(name));
    }
  });

  test('leaves to the environment what differs from node to node, so that one file fits all', () => {
    const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
    expect(agentOf(renderChart()).env).toEqual([
      field('NODE_NAME', 'spec.nodeName'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      field('POD_NAME', 'metadata.name'),
    ]);
  });

  test('says where metrics are, and probes and policies follow', () => {
    const objects = renderChart({ config: { metricsAddress: '0.0.0.0:9999' } });
    expect(agentOf(objects).ports).toEqual([{ name: 'metrics', containerPort: 9999 }]);
    expect(only(objects, 'NetworkPolicy').spec.ingress[0].ports[0].port).toBe(9999);
    const without = renderChart({ config: { metricsAddress: null } });
    expect(agentOf(without)).not.toHaveProperty('ports');
    expect(agentOf(without)).not.toHaveProperty('livenessProbe');
    expect(only(without, 'NetworkPolicy').spec).not.toHaveProperty('ingress');
    expect(() => renderChart({ config: { metricsAddress: null }, podMonitor: { enabled: true } })).toThrow(
      /needs config.metricsAddress/,
    );
  });

  test.each(['127.0.0.1:9095', '[::1]:9095', 'localhost:9095'])(
    'has no probes, ports or scraping on %s, where nobody else gets',
    (metricsAddress) => {
      const objects = renderChart({ config: { metricsAddress } });
      for (const field of ['ports', 'startupProbe', 'livenessProbe', 'readinessProbe'])
        expect(agentOf(objects)).not.toHaveProperty(field);
      expect(only(objects, 'NetworkPolicy').spec).not.toHaveProperty('ingress');
      expect(() => renderChart({ config: { metricsAddress }, podMonitor: { enabled: true } })).toThrow(
        /not on loopback/,
      );
    },
  );

  test('says who issues tokens, and the agent gets there, by its name', () => {
    const oidcIssuer = 'https://issuer.example';
    const ports = (config: object) =>
      (only(renderChart({ config }), 'NetworkPolicy').spec.egress as { ports: object[] }[]).flatMap(
        (rule) => rule.ports,
      );
    const dns = { port: 53, protocol: 'UDP' };
    expect(ports({})).not.toContainEqual(dns);
    const wanted = [dns, { port: 53, protocol: 'TCP' }, { port: 443, protocol: 'TCP' }];
    expect(ports({ oidcIssuer })).toEqual([...ports({}), ...wanted]);
  });

  test('must say where the container runtime is', () => {
    expect(() => renderChart({ config: { criSocket: null } })).toThrow(/config.criSocket is not set/);
  });

  test('says where the container runtime is, and the pod has that directory', () => {
    const objects = renderChart({ config: { criSocket: '/run/crio/crio.sock' } });
    const mount = agentOf(objects).volumeMounts.find(({ name }: { name: string }) => name === 'runtime');
    expect(mount).toEqual({ name: 'runtime', mountPath: '/run/crio', readOnly: true });
    expect(podOf(objects).volumes).toContainEqual({
      name: 'runtime',
      hostPath: { path: '/run/crio', type: 'Directory' },
    });
  });
});

describe("the agent's pods", () => {
  test.each(CASES)('have no more of root than they need, %s', (_, values) => {
    const { containers, initContainers = [], hostNetwork, hostIPC } = podOf(renderChart(values));
    expect([hostNetwork, hostIPC]).toEqual([undefined, undefined]);
    for (const { name, securityContext } of [...initContainers, ...containers]) {
      expect(securityContext).toMatchObject({
        privileged: false,
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        seccompProfile: { type: 'RuntimeDefault' },
        capabilities: { drop: ['ALL'] },
      });
      // measured on 6.1, 6.12 and the newest: what loads, pins, adopts and enforces; and what lets an unknown pod start
      const needs: Record<string, string[]> = {
        agent: ['BPF', 'PERFMON', 'SYSLOG', 'NET_ADMIN'],
        uninstall: ['BPF'],
      };
      expect(securityContext.capabilities.add).toEqual(needs[name]);
    }
  });

  test('may ask who clients are, and be asked, only where events are served to clients', () => {
    const asks = (objects: readonly Manifest[]) =>
      JSON.stringify(objects.filter(({ kind }) => kind === 'ClusterRole')).includes('tokenreviews');
    expect(asks(renderChart())).toBe(false);
    const config = { listenAddress: ':32767', tokenAudience: 'belay' };
    const served = renderChart({
      config,
      tlsSecret: 'belay-tls',
      networkPolicy: { clientsFrom: [{ podSelector: {} }] },
    });
    expect(asks(served)).toBe(true);
    expect(podOf(served).volumes).toContainEqual({
      name: 'tls',
      secret: { secretName: 'belay-tls', defaultMode: 256 },
    });
    expect(served.find(({ kind }) => kind === 'NetworkPolicy')?.spec.ingress).toContainEqual({
      ports: [{ port: 32767, protocol: 'TCP' }],
      from: [{ podSelector: {} }],
    });
  });

  test('write to the host where enforcement is pinned, to cgroups, and to a directory of their own', () => {
    const writable = agentOf(renderChart()).volumeMounts.filter(
      (mount: { readOnly?: boolean }) => !mount.readOnly,
    );
    expect(writable.map(({ mountPath }: { mountPath: string }) => mountPath)).toEqual([
      '/sys/fs/bpf',
      '/sys/fs/cgroup',
      '/run/belay',
      '/var/lib/belay',
    ]);
  });

  test('run on every node, before ordinary pods, and take nothing off when they end', () => {
    const pod = podOf(renderChart());
    expect(pod).toMatchObject({
      hostPID: true,
      priorityClassName: 'system-node-critical',
      tolerations: [{ operator: 'Exists' }],
    });
    expect(pod.containers[0]).not.toHaveProperty('lifecycle');
    expect(only(renderChart(), 'DaemonSet').spec.updateStrategy.type).toBe('RollingUpdate');
  });

  test('take Belay off when that is what is asked for, without any capability', () => {
    const { initContainers, containers } = podOf(renderChart({ uninstall: true }));
    expect(initContainers[0].args).toEqual(['uninstall', '--pin', '/sys/fs/bpf/belay']);
    expect(containers.map(({ name }: { name: string }) => name)).toEqual(['done']);
  });
});

describe('the rights at the API server', () => {
  const KINDS = [
    ...['workloadpolicies', 'clusterworkloadpolicies', 'hostpolicies'].map(
      (kind) => `${kind}.security.belay.dev`,
    ),
    ...['kubearmorpolicies', 'kubearmorclusterpolicies', 'kubearmorhostpolicies'].map(
      (kind) => `${kind}.security.kubearmor.com`,
    ),
  ];

  /** Everything that an agent does there. Who adds a call adds a line. */
  const USES = [
    'list pods',
    'watch pods',
    'list namespaces',
    'watch namespaces',
    'list nodes',
    'watch nodes',
    ...['workloadpolicies', 'clusterworkloadpolicies', 'hostpolicies'].flatMap((policies) => [
      `list security.belay.dev/${policies}`,
      `watch security.belay.dev/${policies}`,
      `patch security.belay.dev/${policies}/status`,
    ]),
    ...KINDS.flatMap((kind) => [
      `list apiextensions.k8s.io/customresourcedefinitions named ${kind}`,
      `watch apiextensions.k8s.io/customresourcedefinitions named ${kind}`,
    ]),
    ...['kubearmorpolicies', 'kubearmorclusterpolicies', 'kubearmorhostpolicies'].flatMap((policies) => [
      `list security.kubearmor.com/${policies}`,
      `watch security.kubearmor.com/${policies}`,
    ]),
    'get security.belay.dev/nodeenforcements',
    'list security.belay.dev/nodeenforcements',
    'watch security.belay.dev/nodeenforcements',
    'create security.belay.dev/nodeenforcements',
    'patch security.belay.dev/nodeenforcements',
    'patch security.belay.dev/nodeenforcements/status',
    'create events',
    'patch events',
    'create coordination.k8s.io/leases in belay-system',
    'get coordination.k8s.io/leases in belay-system named belay-leader',
    'update coordination.k8s.io/leases in belay-system named belay-leader',
  ];

  interface Rule {
    readonly apiGroups: string[];
    readonly resources: string[];
    readonly verbs: string[];
    readonly resourceNames?: string[];
  }
  const granted = ({ rules, metadata }: Manifest) =>
    (rules as Rule[]).flatMap(({ apiGroups, resources, verbs, resourceNames = [''] }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) =>
          verbs.flatMap((verb) =>
            resourceNames.map((name) => {
              const where = metadata.namespace ? ` in ${metadata.namespace}` : '';
              return `${verb} ${group && `${group}/`}${resource}${where}${name && ` named ${name}`}`;
            }),
          ),
        ),
      ),
    );

  test('are those that an agent uses, and no others', () => {
    const objects = renderChart();
    const all = [only(objects, 'ClusterRole'), only(objects, 'Role')].flatMap(granted);
    expect(all.toSorted()).toEqual(USES.toSorted());
  });

  test("belong to the agents' service account", () => {
    const objects = renderChart();
    const account = { kind: 'ServiceAccount', name: 'belay', namespace: 'belay-system' };
    for (const [binding, role] of [
      ['ClusterRoleBinding', 'ClusterRole'],
      ['RoleBinding', 'Role'],
    ] as const) {
      const { subjects, roleRef } = only(objects, binding);
      expect(subjects).toEqual([account]);
      expect(roleRef).toMatchObject({ kind: role, name: only(objects, role).metadata.name });
    }
    expect(podOf(objects).serviceAccountName).toBe(account.name);
    const [condition] = only(objects, 'ValidatingAdmissionPolicy').spec.matchConditions;
    expect(condition.expression).toContain('"system:serviceaccount:belay-system:belay"');
  });
});

test('the plain manifests are what the chart makes, in a namespace that lets the pods in', () => {
  const [namespace, ...rest] = readManifests(readFileSync(join(DEPLOY, 'manifests/belay.yaml'), 'utf8'));
  expect(namespace).toMatchObject({
    kind: 'Namespace',
    metadata: { name: 'belay-system', labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } },
  });
  expect(rest).toEqual(renderChart());
});
