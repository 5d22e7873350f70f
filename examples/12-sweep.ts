// Several ratios from one look at the model, and the smallest whose quality is good enough.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pruneLadder } from 'fang-prune';

const model = 'examples/models/tiny-llama';
const out = process.argv[2] ?? join(await mkdtemp(join(tmpdir(), 'fang-prune-')), 'ladder');
const reports = await pruneLadder({
  model,
  out,
  sparsity: [0.1, 0.2, 0.3],
  method: 'flap',
  modules: 'ffn',
  calibration: { windowCount: 4, windowLength: 128 },
  evaluation: { texts: [`${model}/text/prose.txt`], windowCount: 4, windowLength: 128 },
});

for (const { sparsity, bytes, metrics = [] } of reports)
  for (const { dense = 0, pruned } of metrics)
    console.log(
      `${100 * sparsity.requested} %: ${(bytes.after / 1e6).toFixed(1)} MB, perplexity ${pruned.toFixed(1)} (${dense.toFixed(1)})`,
    );

/** At most this much more perplexity. */
const BEARABLE = 1.25;
const good = reports.filter(({ metrics = [] }) => metrics.every(({ dense = 0, pruned }) => pruned <= BEARABLE * dense));
console.log(`smallest that is good enough: ${good.at(-1)?.out ?? 'none'}`);
