// Makes an image archive (an OCI image layout in a tar file) from a folder, without a container engine:
//
//   node test/vm/image.mjs [--entrypoint JSON] [--cmd JSON] [--env NAME=VALUE]... [--user USER]
//                          [--workdir DIR] --output FILE NAME:TAG FOLDER
//
// `ctr images import FILE` and `podman load` read it. The same folder gives the same bytes: entries are
// sorted, owned by root and of one time. https://github.com/opencontainers/image-spec says what is what.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    output: { type: 'string' },
    entrypoint: { type: 'string' },
    cmd: { type: 'string' },
    env: { type: 'string', multiple: true, default: [] },
    user: { type: 'string' },
    workdir: { type: 'string', default: '/' },
  },
});
const [name, folder] = positionals;
if (values.output === undefined || name === undefined || folder === undefined)
  throw new Error('usage: image.mjs [OPTION]... --output FILE NAME:TAG FOLDER');

const architecture = { x64: 'amd64', arm64: 'arm64' }[process.arch] ?? process.arch;
const work = mkdtempSync(join(tmpdir(), 'belay-image-'));
const blobs = join(work, 'layout', 'blobs', 'sha256');
mkdirSync(blobs, { recursive: true });

/** Files a blob under its digest; says what a descriptor must say of it. */
function blob(mediaType, bytes) {
  const digest = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(blobs, digest), bytes);
  return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
}
const json = (mediaType, value) => blob(mediaType, Buffer.from(JSON.stringify(value)));
const list = (text) => (text === undefined ? undefined : JSON.parse(text));

function tar(from, to, entries) {
  const steady = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu'];
  execFileSync('tar', [...steady, '-C', from, '-cf', to, ...entries]);
}

try {
  const layerFile = join(work, 'layer.tar');
  tar(folder, layerFile, ['.']);
  const layer = blob('application/vnd.oci.image.layer.v1.tar', readFileSync(layerFile));
  const config = json('application/vnd.oci.image.config.v1+json', {
    created: '1970-01-01T00:00:00Z',
    architecture,
    os: 'linux',
    config: {
      Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...values.env],
      Entrypoint: list(values.entrypoint),
      Cmd: list(values.cmd),
      User: values.user,
      WorkingDir: values.workdir,
    },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  });
  const manifestType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = json(manifestType, { schemaVersion: 2, mediaType: manifestType, config, layers: [layer] });
  const layout = join(work, 'layout');
  writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  const annotations = {
    'io.containerd.image.name': name,
    'org.opencontainers.image.ref.name': name.split(':').at(-1),
  };
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [{ ...manifest, annotations, platform: { architecture, os: 'linux' } }],
    }),
  );
  const archive = join(work, 'archive.tar');
  tar(layout, archive, ['oci-layout', 'index.json', 'blobs']);
  // there in one step, also where the temporary folder is on another file system
  cpSync(archive, `${values.output}.part`);
  renameSync(`${values.output}.part`, values.output);
} finally {
  rmSync(work, { recursive: true, force: true });
}
