// A server that prunes on demand: GET /prune?sparsity=0.3 streams progress, then what came of it.
import { mkdtemp } from 'node:fs/promises';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prune } from 'fang-prune';

const folder = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'fang-prune-')));

const server = createServer(async ({ url = '/' }, response) => {
  const sparsity = Number(new URL(url, 'http://localhost').searchParams.get('sparsity') ?? 0.3);
  const stopped = new AbortController();
  // Whoever hangs up wants no result.
  response.on('close', () => stopped.abort());
  response.setHeader('content-type', 'application/x-ndjson');
  const send = (line: object) => response.write(`${JSON.stringify(line)}\n`);
  let percent = -1;
  try {
    const report = await prune({
      model: 'examples/models/tiny-llama',
      out: join(folder, `smaller-${sparsity}`),
      sparsity,
      method: 'flap',
      calibration: { windowCount: 4, windowLength: 128 },
      // A process of its own, so that the server goes on answering.
      isolate: true,
      signal: stopped.signal,
      onProgress({ stage, overall = 0 }) {
        if (Math.floor(100 * overall) === percent) return;
        percent = Math.floor(100 * overall);
        send({ stage, percent });
      },
    });
    send({ out: report.out, parameters: report.parameters });
  } catch (error) {
    send({ error: error instanceof Error ? error.message : String(error) });
  }
  response.end();
});

server.listen(0, () => {
  const { port } = server.address() as AddressInfo;
  get(`http://localhost:${port}/prune?sparsity=0.3`, async (answer) => {
    for await (const part of answer) process.stdout.write(part);
    server.close();
  });
});
