/**
 * Counts the tokens of each text by expert, for every mixture, and prints the normalised mutual information of text and expert.
 *
 *   npx tsx scripts/research/expert-registers.ts MODEL --text german.txt --text python.txt
 */
import { basename } from 'node:path';
import { findLeadingTokens } from '../../src/calibration/leading-tokens.js';
import { cutScoredWindows } from '../../src/evaluation/scored-windows.js';
import { nodePlatform } from '../../src/node.js';
import { resolveOptions } from '../../src/options.js';
import { sampleRouting } from '../../src/prune/measure-dense/sample-routing.js';
import { startContext } from '../../src/prune/prune-context.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { describeRouting } from '../../src/report/describe-routing.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { requireTokenizer } from '../../src/storage/load-tokenizer.js';
import { readText } from '../../src/storage/read-text.js';
import { readArguments, refuse } from '../read-arguments.js';
import { withDense } from './with-dense.js';

const USAGE =
  'npx tsx scripts/research/expert-registers.ts MODEL --text FILE --text FILE... [--windows 16] [--length 128]';
const { values, positionals } = readArguments(USAGE, {
  text: { type: 'string', multiple: true },
  windows: { type: 'string', default: '16' },
  length: { type: 'string', default: '128' },
});
const [model] = positionals;
const { text: texts = [] } = values;
if (model === undefined || texts.length < 2) refuse(USAGE, 'a model folder or at least two texts are missing');
const [windowCount, windowLength] = [Number(values.windows), Number(values.length)];
const say = (message: string) => process.stdout.write(`${message}\n`);

await withDense(model!, async ({ engine, folder, dense, analysed }) => {
  const tokenizer = await requireTokenizer(folder, 'a text');
  const leadingTokens = findLeadingTokens(tokenizer);
  const windows: Int32Array[] = [];
  const textOfWindow: number[] = [];
  for (const [at, file] of texts.entries()) {
    const tokens = tokenizer.encode(await readText(nodePlatform.files, file), { enough: 40 * windowLength });
    const cut = cutScoredWindows(tokens, { windowLength, stride: windowLength, leadingTokens })
      .map((window) => window.tokens)
      .filter(({ length }) => length === windowLength)
      .slice(0, windowCount);
    windows.push(...cut);
    textOfWindow.push(...cut.map(() => at));
  }
  const contexts = {
    contextCount: texts.length,
    contextOfToken: Int32Array.from(textOfWindow.flatMap((at) => Array.from({ length: windowLength }, () => at))),
  };
  const pruning = startContext({
    model: dense,
    analysed,
    engine,
    windows,
    store: storeInMemory,
    createStore: () => createMemoryStore(),
    options: resolveOptions({ sparsity: 0 }),
  });
  const runner = await pruning.startRunner(dense, { isFixed: true });
  const mixtures = analysed.detected.layout.modules.filter(({ kind }) => kind === 'experts');
  const found: number[] = [];
  for (const module of mixtures) {
    while (runner.segment < module.segment) await pruning.pass(runner);
    const { countsByContext: tokens } = await sampleRouting({
      runner,
      module,
      contexts,
      metric: undefined,
      onBatch: () => undefined,
    });
    const { tokens: rows, mutualInformation } = describeRouting({ contexts, tokens: tokens! });
    found.push(mutualInformation);
    say(`block ${module.block}: normalised mutual information ${mutualInformation.toFixed(3)}`);
    rows.forEach((row, text) => {
      const all = row.reduce((sum, count) => sum + count, 0) / module.expertsPerToken!;
      const best = [...row.keys()].sort((a, b) => row[b]! - row[a]!).slice(0, 3);
      const shares = best.map((expert) => {
        const elsewhere = rows.reduce((sum, other) => sum + other[expert]!, 0) / windows.length / windowLength;
        return `expert ${expert} ${((100 * row[expert]!) / all).toFixed(0)} % (all texts ${(100 * elsewhere).toFixed(0)} %)`;
      });
      say(`  ${basename(texts[text]!)}: ${shares.join(', ')}`);
    });
  }
  say(`mean ${(found.reduce((sum, one) => sum + one, 0) / found.length).toFixed(3)}, ${windows.length} windows`);
  await runner.dispose();
  await pruning.dispose();
});
