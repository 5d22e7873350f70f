import { execFile } from 'node:child_process';
import { mkdir, realpath } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { buildPackage } from '../support/built-package.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();

/** Describes a model, then prints the internet sockets that the process holds. */
const scriptFor = (library: string) => `
  import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
  import { describe } from ${JSON.stringify(library)};
  await describe({ model: ${JSON.stringify(resolve(TINY_LLAMA))} });
  const inodes = ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((kind) =>
    readFileSync('/proc/self/net/' + kind, 'utf8').split('\\n').slice(1).map((line) => line.trim().split(/\\s+/)[9]));
  const links = readdirSync('/proc/self/fd').flatMap((fd) => {
    try { return [readlinkSync('/proc/self/fd/' + fd)]; } catch { return []; }
  });
  console.log(JSON.stringify(links.filter((link) => inodes.some((inode) => link === 'socket:[' + inode + ']'))));
`;

/** Runs it in an empty folder and an empty home. @returns the sockets, and the files that it left in either */
async function describeInProcess(environment: NodeJS.ProcessEnv) {
  const root = await realpath(folder());
  const [home, cwd] = [join(root, 'home'), join(root, 'cwd')];
  await Promise.all([home, cwd].map((name) => mkdir(name)));
  // Nothing else is inherited: ONNX Runtime collects no events if variables indicate CI.
  const { PATH } = process.env;
  const script = scriptFor(join(await buildPackage(), 'dist/node.js'));
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
    cwd,
    env: { PATH, HOME: home, ...environment },
  });
  return { sockets: JSON.parse(stdout) as string[], files: await listFiles(root) };
}

// The place of the collected events is known only on Linux.
const onLinux = process.platform === 'linux' ? it : it.skip;

onLinux('ONNX Runtime collects no events, leaves no files and opens no connections', async () => {
  expect(await describeInProcess({})).toEqual({ sockets: [], files: [] });
});

onLinux('ONNX Runtime collects events with ORT_DISABLE_TELEMETRY=0', async () => {
  const { files } = await describeInProcess({ ORT_DISABLE_TELEMETRY: '0' });
  expect(files.filter((file) => file.includes('onnxruntime'))).not.toEqual([]);
});
