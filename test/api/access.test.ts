import { credentials, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KubeApi, KubeObject } from '../../agent/control/api.js';
import { EventLog } from '../../agent/event/log.js';
import { KubeAccess } from '../../agent/serve/kube-access.js';
import { type Serving, serve } from '../../agent/serve/server.js';
import { Caller, NODE } from '../unit/serve-client.js';
import { alertRecord } from '../unit/serve-records.js';
import { ControlPlane, kubernetesPrograms } from './control-plane.js';
import { apiOf, recordedLog } from './harness.js';

const folder = kubernetesPrograms('who may see events, by the API server');

describe.runIf(folder)('tokens of the API server', () => {
  let plane: ControlPlane;
  let admin: KubeApi;
  let serving: Serving;
  let events: EventLog;
  const callers: Caller[] = [];

  const create = (path: string, body: object) => admin.request<KubeObject>(path, { method: 'POST', body });
  const RBAC = '/apis/rbac.authorization.k8s.io/v1';

  /** A token of a service account, made as `kubectl create token` does. */
  async function tokenOf(account: string, audience = 'belay'): Promise<string> {
    const path = `/api/v1/namespaces/default/serviceaccounts/${account}/token`;
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' };
    const spec = { audiences: [audience], expirationSeconds: 600 };
    const answer = await create(path, { ...body, spec });
    return (answer.status as { token: string }).token;
  }

  /** What a token shows of events of shop, of bank and of the node. */
  async function sees(token: string | undefined, request: object = {}): Promise<string[]> {
    const client = new Caller(`127.0.0.1:${serving.port}`, credentials.createInsecure(), { token });
    callers.push(client);
    const seen = await client.watch({ after: '0', untilNow: true, ...request });
    return (await seen.all()).map(({ namespace }) => namespace);
  }

  beforeAll(async () => {
    plane = await ControlPlane.start({ programs: folder ?? '' });
    admin = apiOf(plane);
    for (const name of ['shop', 'bank']) await create('/api/v1/namespaces', { metadata: { name } });
    for (const name of ['shop-viewer', 'auditor', 'nobody', 'leaver'])
      await create('/api/v1/namespaces/default/serviceaccounts', { metadata: { name } });
    const rules = [{ apiGroups: ['security.belay.dev'], resources: ['events'], verbs: ['watch'] }];
    await create(`${RBAC}/clusterroles`, { metadata: { name: 'events' }, rules });
    const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'events' };
    const subject = (name: string) => ({ kind: 'ServiceAccount', namespace: 'default', name });
    await create(`${RBAC}/namespaces/shop/rolebindings`, {
      ...{ metadata: { name: 'events' }, roleRef, subjects: [subject('shop-viewer'), subject('leaver')] },
    });
    await create(`${RBAC}/clusterrolebindings`, {
      ...{ metadata: { name: 'events' }, roleRef, subjects: [subject('auditor')] },
    });
    events = new EventLog();
    for (const [i, namespace] of ['shop', 'bank', ''].entries())
      events.append(alertRecord({ sequence: String(i + 1), namespace }));
    serving = await serve({
      ...{ node: NODE, events, log: recordedLog().log },
      network: { address: '127.0.0.1:0', authorities: { tokens: new KubeAccess(admin, 'belay') } },
    });
  });
  afterAll(async () => {
    for (const caller of callers) caller.close();
    await serving?.close();
    await plane?.close();
  });

  it('show the namespaces whose events their account may watch', async () => {
    expect(await sees(await tokenOf('shop-viewer'))).toEqual(['shop']);
    expect(await sees(await tokenOf('auditor'))).toEqual(['shop', 'bank', '']);
    expect(await sees(await tokenOf('nobody'))).toEqual([]);
  });

  it('do not show another namespace by its name', async () => {
    const token = await tokenOf('shop-viewer');
    expect(await sees(token, { namespaces: ['shop'] })).toEqual(['shop']);
    await expect(sees(token, { namespaces: ['bank'] })).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
    });
  });

  it('are worth nothing when they are for others, forged, unsigned or none', async () => {
    const good = await tokenOf('auditor');
    const [header, claims, signature] = good.split('.');
    const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url');
    const bad = {
      'for others': await tokenOf('auditor', 'another'),
      "for the API server's own audience": await tokenOf('auditor', 'https://kubernetes.default.svc'),
      forged: `${header}.${claims}.${signature.split('').reverse().join('')}`,
      unsigned: `${none}.${claims}.`,
      nonsense: 'abc',
    };
    for (const [what, token] of Object.entries(bad))
      await expect(sees(token), what).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    await expect(sees(undefined)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
  });

  it('are worth nothing once their account is gone', async () => {
    const token = await tokenOf('leaver');
    await admin.request('/api/v1/namespaces/default/serviceaccounts/leaver', { method: 'DELETE' });
    await expect(sees(token)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
  });

  it("let a certificate's holder see what its name may", async () => {
    const access = new KubeAccess(admin);
    const seen = (name: string, groups: string[]) =>
      Promise.all(['shop', 'bank', ''].map(async (namespace) => access.ofUser(name, groups).sees(namespace)));
    expect(await seen('system:serviceaccount:default:shop-viewer', [])).toEqual([true, false, false]);
    expect(await seen('ann', ['system:masters'])).toEqual([true, true, true]);
    expect(await seen('ann', [])).toEqual([false, false, false]);
  });
});
