/**
 * Creates models of equal bytes in several ways and measures them: dtypes alone, pruning alone, and the choice of `shrink`. Every
 * figure is saved in docs/results/sizes/NAME.json at once, and models remain in --scratch, so that a run can be stopped and resumed.
 * DATA contains wikitext2/{train-head,valid}.raw.txt, text/*.txt and tasks/*.jsonl. --variant selects rows by name
 * (scripts/sizes/variants.ts). --speed times all models in --scratch, one after the other. The saved figures are written to
 * docs/research/sizes.md, the plots in docs/images and the README.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  describe,
  evaluateModels,
  type PruneReport,
  planShrink,
  quantize,
  shrink,
  trimVocabulary,
} from '../src/node.js';
import { bytesOfSize, sizeName } from '../src/options/shrink.js';
import { rungFolder } from '../src/pipeline/ladder-rungs.js';
import { REPORT_NAME } from '../src/storage/write-report.js';
import { putBetween } from './options/format-options.js';
import { readArguments, refuse } from './read-arguments.js';
import { drawSizes } from './sizes/draw-sizes.js';
import { formatSizesPage, formatSummary } from './sizes/format-sizes.js';
import { type MeasuredSize, rowName } from './sizes/measured-size.js';
import { timeFolders } from './sizes/time-folders.js';
import { VARIANTS, type Variant } from './sizes/variants.js';
import { storedEntries } from './stored-entries.js';

const USAGE =
  'npm run sizes -- MODEL_FOLDER --data DATA_FOLDER --scratch FOLDER --name NAME [--size 92MB]... [--variant NAME]... [--windows 16] ' +
  '[--text-windows 6] [--tasks 0] [--speed], or npm run sizes -- --format-only';
const { values, positionals } = readArguments(USAGE, {
  data: { type: 'string' },
  scratch: { type: 'string' },
  name: { type: 'string' },
  size: { type: 'string', multiple: true, default: [] },
  variant: { type: 'string', multiple: true, default: VARIANTS.map(({ name }) => name) },
  windows: { type: 'string', default: '16' },
  'text-windows': { type: 'string', default: '6' },
  tasks: { type: 'string', default: '0' },
  speed: { type: 'boolean', default: false },
  'format-only': { type: 'boolean', default: false },
});

/** The model whose table and plot the README shows. */
const IN_README = 'smollm2';

const sizes = storedEntries<MeasuredSize>('docs/results/sizes');
const reportFile = (folder: string): string => join(folder, `${REPORT_NAME}.json`);
const isMade = (folder: string): boolean => existsSync(reportFile(folder));
const filesIn = (folder: string): string[] =>
  readdirSync(folder)
    .sort()
    .map((file) => join(folder, file));
/** Name of a text or task: the beginning of its file name. */
const nameOf = (file: string): string => (basename(file).startsWith('valid.') ? 'wiki' : basename(file).split('.')[0]!);

const [model, ...others] = positionals;
const { data, scratch, name } = values;

if (!values['format-only']) {
  if (model === undefined || data === undefined || scratch === undefined || name === undefined)
    refuse(USAGE, 'a model folder, --data, --scratch or --name is missing');
  if (others.length > 0) refuse(USAGE, `${others.join(' ')}: repeat --size for each size`);
  const unknown = values.variant.find((variant) => VARIANTS.every((row) => row.name !== variant));
  if (unknown !== undefined)
    refuse(USAGE, `there is no variant ${unknown}; there are: ${VARIANTS.map((row) => row.name).join('; ')}`);
  await measureAll({ model, data, scratch, name });
}
writePages();

interface Setup {
  readonly model: string;
  readonly data: string;
  readonly scratch: string;
  readonly name: string;
}

/** A model that is there, or will be. */
interface Row {
  readonly variant: Variant;
  readonly target?: string;
  readonly folder: string;
}

async function measureAll(setup: Setup): Promise<void> {
  const rows: Row[] = [];
  for (const variant of VARIANTS.filter((each) => !each.isPast && values.variant.includes(each.name))) {
    const made = await make(variant, setup);
    for (const row of made) await measure(row, setup);
    rows.push(...made);
  }
  if (!values.speed) return;
  const speeds = await timeFolders(rows.map(({ folder }) => folder));
  for (const [at, { variant, target }] of rows.entries()) {
    const id = rowName(variant.name, target);
    sizes.store(setup.name, id, { ...sizes.read(setup.name)[id]!, speed: speeds[at]! });
  }
}

/** Creates the missing models of a variant. */
async function make(variant: Variant, { model: dense, data, scratch }: Setup): Promise<readonly Row[]> {
  const out = join(scratch, variant.name.replace(/\W+/g, '-'));
  if (variant.command !== undefined) return existsSync(out) ? [{ variant, folder: out }] : toMake(variant, dense, out);
  if (variant.quantize === undefined && variant.shrink === undefined) return [{ variant, folder: dense }];
  const model = await withVocabulary(variant.keepLanguages, dense, scratch);
  const text = join(data, 'wikitext2', 'train-head.raw.txt');
  const [windowCount, windowLength] = [Number(values.windows), 512];
  if (variant.quantize !== undefined) {
    const calibration = { source: { file: text }, windowCount, windowLength };
    const learns = variant.quantize.dtype !== 'q8' && variant.quantize.rounding === undefined;
    if (!isMade(out)) await quantize({ model, out, ...variant.quantize, ...(learns && { calibration }), force: true });
    return [{ variant, folder: out }];
  }
  const { smallest } = await planShrink({ model, ...variant.shrink });
  const targets = values.size.map(sizeName).filter((size) => bytesOfSize(size)! >= smallest.bytes);
  const rows = targets.map(
    (target): Row => ({ variant, target, folder: rungFolder(out, { name: target, sparsity: 0 }) }),
  );
  const targetSize = rows.filter(({ folder }) => !isMade(folder)).map(({ target }) => target!);
  const calibration = { windowCount, windowLength };
  if (targetSize.length > 0)
    await shrink({ model, out, ...variant.shrink, text, calibration, targetSize, force: true });
  return rows;
}

/** Prints that a model of another tool is left out, and the command that creates it. */
function toMake({ name, command }: Variant, dense: string, out: string): readonly [] {
  process.stdout.write(`${name}: left out, to be made by: ${command} ${dense} ${out}\n`);
  return [];
}

/** The model with the tokens of some languages, created if it is missing. */
async function withVocabulary(
  keepLanguages: readonly string[] | undefined,
  model: string,
  scratch: string,
): Promise<string> {
  if (keepLanguages === undefined) return model;
  const out = join(scratch, `vocabulary-${keepLanguages.join('-')}`);
  if (!existsSync(out)) await trimVocabulary({ model, out, keepLanguages, force: true });
  return out;
}

/** Measures the missing figures of a model. */
async function measure({ variant, target, folder }: Row, { model, data, name }: Setup): Promise<void> {
  const id = rowName(variant.name, target);
  const known = sizes.read(name)[id];
  const texts = [join(data, 'wikitext2', 'valid.raw.txt'), ...filesIn(join(data, 'text'))];
  const tasks = Number(values.tasks) > 0 ? filesIn(join(data, 'tasks')) : [];
  const isDone = texts.every((file) => nameOf(file) in (known?.bitsPerByte ?? {}));
  const areTasksDone = tasks.every((file) => nameOf(file) in (known?.tasks ?? {}));
  if (isDone && areTasksDone) return;
  process.stdout.write(`${id}\n`);
  const [found] = await evaluateModels({
    models: [folder],
    ...(!isDone && { texts, windowLength: 512, windowCount: Number(values['text-windows']) }),
    ...(!areTasksDone && { tasks, limit: Number(values.tasks) }),
  });
  const bitsPerByte = found!.perplexity.map(({ text, bitsPerByte: bits }): [string, number] => [nameOf(text), bits!]);
  const accuracies = found!.tasks.map(({ file, accNorm, acc }): [string, number] => [nameOf(file), accNorm ?? acc]);
  sizes.store(name, id, {
    ...(isMade(folder) ? madeOf(folder) : await madeElsewhere(folder, model)),
    variant: variant.name,
    ...(target !== undefined && { target }),
    ...(variant.shrink !== undefined && { windows: Number(values.windows) }),
    ...(known?.speed && { speed: known.speed }),
    bitsPerByte: { ...known?.bitsPerByte, ...Object.fromEntries(bitsPerByte) },
    ...(tasks.length > 0 || known?.tasks ? { tasks: { ...known?.tasks, ...Object.fromEntries(accuracies) } } : {}),
  });
}

/** What is seen of a model without a report. */
async function madeElsewhere(folder: string, model: string): Promise<Pick<MeasuredSize, 'bytes' | 'removed'>> {
  const [made, dense] = [await describe({ model: folder }), await describe({ model })];
  const removed = (dense.parameters.total - made.parameters.total) / dense.parameters.prunable;
  return { bytes: made.format.bytes, removed };
}

/** Figures in the report of a model. */
function madeOf(folder: string): Pick<MeasuredSize, 'bytes' | 'removed' | 'maps' | 'candidates'> {
  const { bytes, sparsity, size } = JSON.parse(readFileSync(reportFile(folder), 'utf8')) as PruneReport;
  const chosen = size?.candidates.find((candidate) => candidate.chosen);
  return {
    bytes: bytes.after,
    removed: sparsity.achieved,
    ...(chosen && { maps: chosen.maps, candidates: size!.candidates }),
  };
}

function writePages(): void {
  const models = sizes.readAll();
  writeFileSync('docs/research/sizes.md', formatSizesPage(models));
  const first = models.find(([model]) => model === IN_README);
  if (first === undefined) return;
  for (const theme of ['light', 'dark'] as const)
    writeFileSync(`docs/images/sizes-${theme}.svg`, drawSizes(first[1], theme));
  writeFileSync('README.md', putBetween(readFileSync('README.md', 'utf8'), 'sizes', formatSummary(first[1])));
}
