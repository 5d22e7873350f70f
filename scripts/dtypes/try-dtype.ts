import { execFile } from 'node:child_process';
import { cpSync, existsSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import * as transformers from '@huggingface/transformers';
import { logitsGap } from '../../src/evaluation/compare-logits.js';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { type DtypeName, openModelFolder, type PruneReport, quantize, shrink } from '../../src/node.js';
import { openLanguageModel } from '../../src/pipeline/open-language-model.js';
import { DTYPES } from '../../src/quantisation/dtypes.js';
import type { Engine } from '../../src/runtime/engine.js';
import { createOrtEngine } from '../../src/runtime/ort-engine.js';
import type { Chromium } from './open-in-chromium.js';
import { type Opened, type OpenRequest, openInTransformers } from './open-in-transformers.js';

const { env } = transformers;

/** Where a result is opened. */
export const RUNTIMES = {
  native: 'onnxruntime-node',
  web: 'onnxruntime-web in Node.js',
  node: 'transformers.js, Node.js',
  wasm: 'transformers.js, Chromium, wasm',
  webgpu: 'transformers.js, Chromium, WebGPU',
  genai: 'onnxruntime-genai',
} as const;

export type Runtime = keyof typeof RUNTIMES;

/** What came of opening a result in one runtime. */
export type Opening =
  | {
      readonly outcome: 'opened';
      /** Largest difference of logits from those of onnxruntime-node, as a fraction of their range. */
      readonly gap?: number;
      readonly tokenCount?: number;
    }
  | { readonly outcome: 'lacking' | 'failed'; readonly reason: string };

/** What became of one model in one dtype. */
export type DtypeRun =
  | {
      readonly outcome: 'works' | 'opens not everywhere';
      readonly bytes: number;
      /** Gap of the logits to the masked original's; absent where there is no certificate. */
      readonly certificate?: number | undefined;
      readonly openings: Readonly<Partial<Record<Runtime, Opening>>>;
    }
  | { readonly outcome: 'refused'; readonly reason: string /** Whatever the dtype. */; readonly isModel: boolean }
  | { readonly outcome: 'failed'; readonly reason: string };

export interface DtypeTry {
  readonly folder: string;
  /** The first is the folder's default, the others are opened by name. */
  readonly dtypes: readonly DtypeName[];
  /** Size of one file whose linear layers have several of the dtypes, as `shrink` writes it. Absent: a file a dtype. */
  readonly mixedBytes?: number | undefined;
  /** Holds the results; pages see it. */
  readonly scratch: string;
  /** Absent: no page opens it. */
  readonly chromium?: Chromium | undefined;
  /** Whether pages run it on WebGPU too. */
  readonly hasWebgpu: boolean;
  /** A Python with onnxruntime-genai. */
  readonly genai?: string | undefined;
}

/** Ids that the smallest vocabularies have. */
const PROMPT = [5, 27, 30, 12, 25, 8, 23, 7, 3, 14, 18, 29, 21, 10];

/**
 * Largest allowed difference of runtimes' logits, as a fraction of their range. Another order of float32 sums of some hundred
 * terms changes them by 1e-6 of it; that of float16 sums by 1e-3 per block. If activations are rounded to 8 bits, such a
 * difference becomes 1/255 where it crosses a step.
 */
const mostApart = (dtype: DtypeName): number => {
  const { linears, floats } = DTYPES[dtype];
  if (floats === 'float16') return 2e-2;
  return linears.kind === 'float' ? 1e-3 : 0.15;
};

/** Writes a model in one dtype or several, opens each in every runtime that it is for, and has it write some tokens. */
export async function tryDtypes(request: DtypeTry): Promise<Readonly<Record<string, DtypeRun>>> {
  const { folder, dtypes, scratch, mixedBytes } = request;
  const out = join(scratch, 'out');
  const isMixed = mixedBytes !== undefined;
  try {
    const report = isMixed
      ? await writeMixed(request, { out, mixedBytes })
      : await quantize({ model: folder, out, dtype: dtypes, rounding: 'nearest' });
    const runs: Record<string, DtypeRun> = {};
    for (const [at, { dtype, file, bytes, certificate }] of (report.dtypes ?? []).entries()) {
      if (certificate === undefined) throw new Error(`no certificate: ${report.remarks.join('; ')}`);
      const result = { out: report.out!, file, dtype: dtype as DtypeName, isFirst: at === 0 };
      const openings = await openEverywhere(request, result);
      const isOpened = Object.values(openings).every(({ outcome }) => outcome !== 'failed');
      const outcome = isOpened ? 'works' : 'opens not everywhere';
      runs[isMixed ? MIXED : dtype] = { outcome, bytes, certificate: certificate.gap, openings };
    }
    return runs;
  } catch (error) {
    const { code, message: said } = error as { readonly code?: string; readonly message: string };
    const reason = said.replaceAll(resolve(folder), basename(folder)).replaceAll(scratch, '');
    const isRefused = code === 'ERR_UNSUPPORTED_MODEL';
    const run: DtypeRun = isRefused
      ? { outcome: 'refused', reason, isModel: !/dtype|precision/.test(reason) }
      : { outcome: 'failed', reason: `${code ?? 'no code'}: ${reason}` };
    return Object.fromEntries((isMixed ? [MIXED] : dtypes).map((name) => [name, run]));
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Name of a file with linear layers of several dtypes. */
export const MIXED = 'mixed';

/** One file with linear layers of several dtypes, which cost the least together. */
async function writeMixed(
  { folder, dtypes }: DtypeTry,
  { out, mixedBytes }: { readonly out: string; readonly mixedBytes: number },
): Promise<PruneReport> {
  const [report] = await shrink({
    model: folder,
    out,
    targetSize: mixedBytes,
    allow: ['bits'],
    dtypes,
    evaluation: false,
    // Ids that the smallest vocabularies have.
    calibration: {
      windowCount: 4,
      windowLength: 64,
      generate: false,
      source: { tokens: [Int32Array.from({ length: 512 }, (_, at) => (at * at * 7 + at * 3) % 31)] },
    },
  });
  const maps = report.size?.candidates.find(({ chosen }) => chosen)?.maps ?? {};
  if (Object.keys(maps).length < 2) throw new Error(`all weights have one dtype: ${JSON.stringify(maps)}`);
  return report;
}

interface Result {
  readonly out: string;
  readonly file: string;
  readonly dtype: DtypeName;
  /** Whether it is the folder's default. */
  readonly isFirst: boolean;
}

type Openings = Partial<Record<Runtime, Opening>>;

async function openEverywhere(request: DtypeTry, { out, file, dtype, isFirst }: Result): Promise<Openings> {
  const model = join(out, file);
  const native = await readPrompt(await createNodeEngine(), model);
  const openings: Openings = { native: { outcome: 'opened' } };
  const compared = (logits: Iterable<number>, tokenCount?: number): Opening => {
    const gap = logitsGap(Float32Array.from(logits), native.logits);
    const isNear = gap <= mostApart(dtype);
    if (!isNear) return { outcome: 'failed', reason: `its logits are ${gap.toExponential(1)} of their range off` };
    return { outcome: 'opened', gap: Number(gap.toExponential(1)), ...(tokenCount !== undefined && { tokenCount }) };
  };
  // Asked for by name it is the same file.
  if (isFirst) openings.web = await orFailed(async () => compared((await readPrompt(webEngine(), model)).logits));
  if (existsSync(join(out, 'genai_config.json'))) {
    const { genai } = request;
    if (genai !== undefined)
      openings.genai = await orFailed(
        () => openInGenai(out, genai),
        async () => {
          const { outcome } = await orFailed(() => openInGenai(request.folder, genai));
          return outcome === 'failed' ? { outcome: 'lacking', reason: 'nor does the source open' } : undefined;
        },
      );
    return openings;
  }
  if (!existsSync(join(out, 'config.json'))) return openings;
  const hasTokenizer = ['tokenizer_config.json', 'tokenizer.json'].every((name) => existsSync(join(out, name)));
  const options = isFirst ? {} : { dtype };
  const asked = { name: 'out', prompt: PROMPT, hasCache: native.hasCache, hasTokenizer, options };
  const { chromium, hasWebgpu } = request;
  const ways: Partial<Record<Runtime, (asked: OpenRequest) => Promise<Opened>>> = {
    node: (wanted) => openInNode(request.scratch, wanted),
    ...(chromium && { wasm: chromium.open }),
  };
  if (chromium !== undefined && hasWebgpu && isFirst) {
    const lack = await chromium.lackOf(DTYPES[dtype].floats === 'float16');
    if (lack !== undefined) openings.webgpu = { outcome: 'lacking', reason: lack };
    else ways.webgpu = (wanted) => chromium.open({ ...wanted, options: { ...wanted.options, device: 'webgpu' } });
  }
  for (const [runtime, open] of Object.entries(ways)) {
    openings[runtime as Runtime] = await orFailed(
      async () => {
        const { logits, tokens } = await open(asked);
        return compared(logits, tokens.length);
      },
      // A result need not open where its source does not.
      (said) => openSource(request, { said, open: () => open({ ...asked, name: 'source', options: {} }) }),
    );
  }
  return openings;
}

/** @param excuse accepted reason of a failure; undefined for none */
async function orFailed(
  open: () => Promise<Opening>,
  excuse: (said: string) => Promise<Opening | undefined> = async () => undefined,
): Promise<Opening> {
  try {
    return await open();
  } catch (error) {
    const reason = (error as Error).message;
    return (await excuse(reason)) ?? { outcome: 'failed', reason };
  }
}

async function readPrompt(engine: Engine, path: string) {
  const written = await openModelFolder(path);
  const model = await openLanguageModel(engine, written);
  try {
    return { logits: await model.createReader().read([Int32Array.from(PROMPT)]), hasCache: model.hasCache };
  } finally {
    await model.release();
    await written.close();
  }
}

/** transformers.js brings the version of onnxruntime-web that pages run. */
function webEngine(): Engine {
  const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'));
  // Pages hand it bytes.
  const { loadFile: _, ...wasm } = createOrtEngine(require('onnxruntime-web'), { executionProviders: ['wasm'] });
  return wasm;
}

function openInNode(models: string, asked: OpenRequest): Promise<Opened> {
  env.allowRemoteModels = false;
  env.localModelPath = `${models}/`;
  return openInTransformers(transformers, asked);
}

/** Opens the source in transformers.js' layout. @returns the excuse that the source fails as its result does */
async function openSource(
  { folder: source, scratch }: DtypeTry,
  { said, open }: { readonly said: string; readonly open: () => Promise<unknown> },
): Promise<Opening | undefined> {
  const { modelFile, embeddings, close } = await openModelFolder(source);
  await close();
  if (embeddings !== undefined)
    return { outcome: 'lacking', reason: 'no text model there has an embedding model apart' };
  const folder = join(scratch, 'source');
  const inside = modelFile.includes('/') ? folder : join(folder, 'onnx');
  cpSync(source, folder, { recursive: true });
  // External data are next to their model.
  cpSync(source, inside, { recursive: true });
  renameSync(join(inside, modelFile), join(folder, 'onnx/model.onnx'));
  try {
    await open();
    return undefined;
  } catch (error) {
    // Node numbers differ from run to run.
    const isSame = said.slice(0, 40) === (error as Error).message.slice(0, 40);
    return isSame ? { outcome: 'lacking', reason: `nor does the source open: ${said.slice(0, 200)}` } : undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function openInGenai(folder: string, python: string): Promise<Opening> {
  const { stdout } = await promisify(execFile)(python, ['scripts/dtypes/open_genai.py', folder, PROMPT.join()]);
  return { outcome: 'opened', tokenCount: Number(/(\d+) tokens/.exec(stdout)?.[1]) };
}
