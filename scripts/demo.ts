/** Prunes the bundled model at three sparsities and shows what that costs and what it saves. `npm run demo` */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { generateText, perplexity, prune } from 'fang-prune';
import { formatBytes, formatCount } from '../src/cli/format-quantity.js';
import { formatTable } from '../src/cli/format-table.js';

const MODEL = 'examples/models/tiny-llama';
const OUTPUT = 'demo-output';
const SPARSITIES = [0.2, 0.3, 0.4];
const PROMPT = 'The Moon is';

/** The length the model was trained on. */
const CALIBRATION = { windowLength: 256 };

/** Enough of each text for a steady figure, in seconds rather than minutes. */
const WINDOWS = { windowLength: 256, windowCount: 8 };

interface Column {
  readonly name: string;
  readonly folder: string;
  readonly parameters: number;
  readonly bytes: number;
}

const texts = readdirSync(join(MODEL, 'text')).map((name) => join(MODEL, 'text', name));
const columns = await pruneAll();
const measured: (Column & Awaited<ReturnType<typeof measure>>)[] = [];
for (const column of columns) measured.push({ ...column, ...(await measure(column.folder)) });

const cells = (name: string, cell: (column: (typeof measured)[number]) => string) => [name, ...measured.map(cell)];
process.stdout.write(
  `\n${formatTable(
    [{ heading: '' }, ...measured.map(({ name }) => ({ heading: name, numeric: true }))],
    [
      cells('parameters', ({ parameters }) => formatCount(parameters)),
      cells('bytes', ({ bytes }) => formatBytes(bytes)),
      cells('tokens read a second', ({ tokensPerSecond }) => formatCount(tokensPerSecond)),
      ...texts.map((text, index) =>
        cells(`perplexity, ${basename(text, '.txt')}`, ({ perplexities }) => perplexities[index]?.toFixed(2) ?? ''),
      ),
    ],
  )}\n`,
);
for (const { name, sample } of measured) process.stdout.write(`${name}: ${JSON.stringify(PROMPT + sample)}\n`);
process.stdout.write(`\nThe pruned models are in ${OUTPUT}/, ready for onnxruntime and transformers.js.\n`);

async function pruneAll(): Promise<Column[]> {
  const pruned: Column[] = [];
  let dense: Column | undefined;
  for (const sparsity of SPARSITIES) {
    const name = `${sparsity * 100} % pruned`;
    say(`pruning ${MODEL} at ${sparsity * 100} %`);
    const folder = join(OUTPUT, `tiny-llama-${sparsity * 100}`);
    const { parameters, bytes } = await prune({
      model: MODEL,
      out: folder,
      sparsity,
      calibration: CALIBRATION,
      force: true,
    });
    dense ??= { name: 'dense', folder: MODEL, parameters: parameters.before, bytes: bytes.before };
    pruned.push({ name, folder, parameters: parameters.after, bytes: bytes.after });
  }
  return dense ? [dense, ...pruned] : pruned;
}

async function measure(model: string) {
  say(`measuring ${model}`);
  const perplexities: number[] = [];
  let windowCount = 0;
  let ms = 0;
  for (const file of texts) {
    // The first window also pays for loading the model, so the clock starts behind it.
    let startedAt: number | undefined;
    const onProgress = () => {
      if (startedAt !== undefined) windowCount++;
      startedAt ??= performance.now();
    };
    perplexities.push((await perplexity({ model, file, ...WINDOWS, onProgress })).perplexity);
    ms += performance.now() - (startedAt ?? performance.now());
  }
  const { text: sample } = await generateText({ model, prompt: PROMPT, maxNewTokens: 40 });
  return { perplexities, tokensPerSecond: (1000 * windowCount * WINDOWS.windowLength) / ms, sample };
}

function say(message: string): void {
  process.stderr.write(`${message}\n`);
}
