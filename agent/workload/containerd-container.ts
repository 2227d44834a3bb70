import { CGROUP_ROOT, cgroupFault, cgroupOfProcess, cgroupOfSpec, containerCgroup } from './cgroup.js';
import type { Container } from './containerd-api.js';
import type { Workload } from './model.js';

/** What Kubernetes' runtime interface (CRI) writes on containers. */
const POD_NAMESPACE = 'io.kubernetes.pod.namespace';
const POD_NAME = 'io.kubernetes.pod.name';
const CONTAINER_NAME = 'io.kubernetes.container.name';
const KIND = 'io.cri-containerd.kind';

export interface Known {
  readonly workload: Workload;
  /** What the specification says of the cgroup; empty if nothing. */
  readonly cgroupsPath: string;
}

/**
 * The workload that a container is. A container that belongs to a pod is named by its Kubernetes labels; any other
 * has containerd's namespace, and its id for name and container. Labels are those that containerd knows.
 *
 * @param pid of its first process, undefined while there is none
 * @param before what it was at the last look
 * @returns undefined for what is no workload: a pod's sandbox, or a container whose cgroup cannot be known before it
 * starts; `fault` for what is one and cannot be watched
 */
export function describe(
  namespace: string,
  container: Container,
  pid: number | undefined,
  before: Known | undefined,
): Known | { readonly fault: string } | undefined {
  const { id, labels, image, spec } = container;
  if (labels[KIND] === 'sandbox') return undefined;
  const cgroupsPath = spec === null ? '' : cgroupsPathOf(spec.value);
  const cgroup = cgroupOf(cgroupsPath, pid, before);
  if (cgroup === undefined) {
    // A relative path hangs below runc's own cgroup: the first process will show where.
    return pid === undefined ? undefined : { fault: 'where its cgroup is cannot be seen' };
  }
  const fault = cgroupFault(cgroup);
  if (fault !== undefined) return { fault: `its cgroup ${cgroup} ${fault}` };
  const pod = labels[POD_NAME] ? labels : {};
  const workload: Workload = {
    namespace: pod[POD_NAMESPACE] || namespace,
    name: pod[POD_NAME] || id,
    labels: new Map(Object.entries(labels)),
    container: pod[CONTAINER_NAME] || id,
    containerId: id,
    image,
    cgroup,
  };
  return { workload, cgroupsPath };
}

/** Where its first process is; before there is one, and after, where the specification says. */
function cgroupOf(
  cgroupsPath: string,
  pid: number | undefined,
  before: Known | undefined,
): string | undefined {
  const seen = pid === undefined ? undefined : cgroupOfProcess(pid);
  if (seen !== undefined) return CGROUP_ROOT + containerCgroup(cgroupsPath, seen);
  if (before?.cgroupsPath === cgroupsPath) return before.workload.cgroup;
  const asked = cgroupOfSpec(cgroupsPath);
  return asked === undefined ? undefined : CGROUP_ROOT + asked;
}

/** `linux.cgroupsPath` of an OCI runtime specification. */
function cgroupsPathOf(spec: Uint8Array): string {
  try {
    const { linux } = JSON.parse(Buffer.from(spec).toString()) as { linux?: { cgroupsPath?: unknown } };
    return typeof linux?.cgroupsPath === 'string' ? linux.cgroupsPath : '';
  } catch {
    return '';
  }
}
