import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { AutoModelForCausalLM, env, pipeline, Tensor } from '@huggingface/transformers';
import { logitsGap } from '../../src/evaluation/compare-logits.js';
import { type DtypeName, openModelFolder, quantize } from '../../src/node.js';
import { openLanguageModel } from '../../src/pipeline/open-language-model.js';
import { createNodeEngine } from '../../src/platform/node/node-engine.js';
import { DTYPES } from '../../src/quantisation/dtypes.js';
import type { Engine } from '../../src/runtime/engine.js';
import { createOrtEngine } from '../../src/runtime/ort-engine.js';

/** What became of one model in one dtype. */
export type DtypeRun =
  | {
      readonly outcome: 'works';
      readonly bytes: number;
      /** Gap of the logits to the masked original's; absent where there is no certificate. */
      readonly certificate?: number | undefined;
      /** What opened it, each with what it found. */
      readonly opened: readonly string[];
    }
  | { readonly outcome: 'refused'; readonly reason: string /** Whatever the dtype. */; readonly isModel: boolean }
  | { readonly outcome: 'failed'; readonly reason: string };

export interface DtypeTry {
  readonly folder: string;
  readonly dtype: DtypeName;
  /** A Python with onnxruntime-genai. */
  readonly genai?: string | undefined;
}

const PROMPT = [5, 77, 300, 12, 451, 98, 203, 7, 333, 64, 187, 29, 410, 150];
const NEW_TOKENS = 6;

/** Two runtimes differ by no more, as a fraction of the logits' range; rounding activations to 8 bits makes much of little. */
const mostApart = (dtype: DtypeName): number => (DTYPES[dtype].maps.kind === 'dynamic' ? 0.15 : 2e-2);

/** Writes a model in one dtype, opens the folder in each runtime that it is for, and has it write some tokens. */
export async function tryDtype({ folder, dtype, genai }: DtypeTry): Promise<DtypeRun> {
  const scratch = mkdtempSync(join(tmpdir(), 'fang-prune-dtypes-'));
  const out = join(scratch, 'out');
  try {
    const { dtypes = [], remarks } = await quantize({ model: folder, out, dtype, rounding: 'nearest' });
    const { bytes, certificate } = dtypes[0]!;
    if (certificate === undefined) throw new Error(`no certificate: ${remarks.join('; ')}`);
    const native = await readPrompt(await createNodeEngine(), out);
    const opened = [
      `onnxruntime-node ${certificate.opened ? 'opened' : 'opened in parts'}`,
      await openInWeb(out, { dtype, logits: native.logits }),
    ];
    if (existsSync(join(out, 'genai_config.json'))) {
      if (genai !== undefined) opened.push(await openInGenai(out, genai));
    } else if (existsSync(join(out, 'config.json')))
      opened.push(await openAsSourceDoes(scratch, folder, native.hasCache));
    return { outcome: 'works', bytes, certificate: certificate.gap, opened };
  } catch (error) {
    const { code, message: said } = error as { readonly code?: string; readonly message: string };
    const reason = said.replaceAll(resolve(folder), basename(folder)).replaceAll(scratch, '');
    const isRefused = code === 'ERR_UNSUPPORTED_MODEL';
    return isRefused
      ? { outcome: 'refused', reason, isModel: !/dtype|precision/.test(reason) }
      : { outcome: 'failed', reason: `${code ?? 'no code'}: ${reason}` };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function readPrompt(engine: Engine, folder: string) {
  const written = await openModelFolder(folder);
  const model = await openLanguageModel(engine, written);
  try {
    return { logits: await model.createReader().read([Int32Array.from(PROMPT)]), hasCache: model.hasCache };
  } finally {
    await model.release();
    await written.close();
  }
}

/** transformers.js brings the version of onnxruntime-web that pages run. */
async function openInWeb(folder: string, native: { readonly dtype: DtypeName; readonly logits: Float32Array }) {
  const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'));
  // Pages hand it bytes.
  const { loadFile: _, ...wasm } = createOrtEngine(require('onnxruntime-web'), { executionProviders: ['wasm'] });
  const gap = logitsGap((await readPrompt(wasm, folder)).logits, native.logits);
  if (gap > mostApart(native.dtype))
    throw new Error(`in onnxruntime-web the logits are ${gap.toExponential(1)} of their range off`);
  return `onnxruntime-web ${gap.toExponential(1)}`;
}

/** A result need not open where its source does not. */
async function openAsSourceDoes(root: string, source: string, hasCache: boolean): Promise<string> {
  try {
    return await openInTransformers(root, { name: 'out', hasCache });
  } catch (error) {
    const said = await openSource(root, source, hasCache);
    // Node numbers differ from run to run.
    if (said?.slice(0, 40) !== (error as Error).message.slice(0, 40)) throw error;
    return 'transformers.js opens neither it nor the source';
  }
}

/** @returns what goes wrong with the source in transformers.js' layout. */
async function openSource(root: string, source: string, hasCache: boolean): Promise<string | undefined> {
  const { modelFile, close } = await openModelFolder(source);
  await close();
  const folder = join(root, 'source');
  const inside = modelFile.includes('/') ? folder : join(folder, 'onnx');
  cpSync(source, folder, { recursive: true });
  // Weights of its own lie beside a model.
  cpSync(source, inside, { recursive: true });
  renameSync(join(inside, modelFile), join(folder, 'onnx/model.onnx'));
  try {
    await openInTransformers(root, { name: 'source', hasCache });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Opens a folder with no option set. Without a cache transformers.js cannot write: it hands the last token alone.
 * @param root the folder that holds the model's
 */
async function openInTransformers(
  root: string,
  { name, hasCache }: { readonly name: string; readonly hasCache: boolean },
): Promise<string> {
  env.allowRemoteModels = false;
  env.localModelPath = `${root}/`;
  if (
    hasCache &&
    existsSync(join(root, name, 'tokenizer_config.json')) &&
    existsSync(join(root, name, 'tokenizer.json'))
  ) {
    const generator = await pipeline('text-generation', name);
    try {
      const [said] = (await generator('the', { max_new_tokens: NEW_TOKENS, do_sample: false })) as {
        readonly generated_text: string;
      }[];
      if (typeof said?.generated_text !== 'string') throw new Error('transformers.js gives no text');
      return 'transformers.js pipeline';
    } finally {
      await generator.dispose();
    }
  }
  const model = await AutoModelForCausalLM.from_pretrained(name);
  try {
    const dims = [1, PROMPT.length];
    const ids = new Tensor('int64', BigInt64Array.from(PROMPT, BigInt), dims);
    const mask = new Tensor(
      'int64',
      BigInt64Array.from(PROMPT, () => 1n),
      dims,
    );
    if (!hasCache) {
      const { logits } = (await model({ input_ids: ids, attention_mask: mask })) as { readonly logits: Tensor };
      return `transformers.js logits [${logits.dims}]`;
    }
    const call = { inputs: ids, attention_mask: mask, max_new_tokens: NEW_TOKENS, do_sample: false };
    const found = (await model.generate(call as never)) as Tensor;
    const length = found.dims.at(-1) ?? 0;
    if (length <= PROMPT.length) throw new Error(`transformers.js gives ${length} tokens for ${PROMPT.length}`);
    return `transformers.js ${length - PROMPT.length} tokens`;
  } finally {
    await model.dispose();
  }
}

async function openInGenai(folder: string, python: string): Promise<string> {
  const { stdout } = await promisify(execFile)(python, ['scripts/dtypes/open_genai.py', folder, PROMPT.join()]);
  return stdout.trim();
}
