import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { logitsGap } from '../../src/evaluation/compare-logits.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { openModelFolder, type PruneRequest, prune } from '../../src/node.js';
import { openLanguageModel } from '../../src/pipeline/open-language-model.js';

/** What became of one model in one way of pruning. */
export type CaseRun =
  | {
      readonly outcome: 'works';
      /** Largest difference of logits with the KV cache from those of one pass, as a fraction of their range. */
      readonly gap: number;
      readonly hasCache: boolean;
      /** Whether ONNX Runtime opened the written model by its path, or only with operators expanded that it cannot run. */
      readonly opened: boolean;
      /** Remarks of the report, such as modules that are not pruned. */
      readonly remarks: readonly string[];
    }
  | { readonly outcome: 'refused'; readonly reason: string }
  | { readonly outcome: 'failed'; readonly reason: string };

/** A model folder and its description. */
export interface Case {
  readonly name: string;
  readonly folder: string;
  readonly exporter: string | undefined;
  readonly opset: number | undefined;
  readonly special: string | undefined;
}

/** The ways each model is pruned: the default command, and its attention alone, whose quality is not measured again. */
export const WAYS = {
  'FFN and heads': {},
  'attention alone': { modules: 'attention', evaluation: false },
} as const satisfies Record<string, Partial<PruneRequest>>;

export type Way = keyof typeof WAYS;

/** Gaps beyond these are more than rounding. */
const TOLERANCES = { float32: 1e-3, half: 3e-2 };

/** Random models know no text, so that a few short windows serve. */
const CALIBRATION = { windowCount: 4, windowLength: 32 };

const PROMPT = Int32Array.of(5, 77, 300, 12, 451, 98, 203, 7, 333, 64, 187, 29, 410, 150);

/** Prunes a model folder in one way, opens the result as users do, and continues from its KV cache. */
export async function tryCase({ folder }: Case, way: Way): Promise<CaseRun> {
  const scratch = mkdtempSync(join(tmpdir(), 'fang-prune-exporters-'));
  const out = join(scratch, 'out');
  try {
    const request = { model: folder, out, sparsity: 0.3, calibration: CALIBRATION, ...WAYS[way] };
    const { remarks, certificate } = await prune(request);
    return { ...(await restore(out, certificate?.tolerance)), opened: certificate?.opened === true, remarks };
  } catch (error) {
    const { code, message: said } = error as { readonly code?: string; readonly message: string };
    const message = said.replaceAll(resolve(folder), basename(folder));
    const outcome = code === 'ERR_UNSUPPORTED_MODEL' ? 'refused' : 'failed';
    return { outcome, reason: outcome === 'refused' ? message : `${code ?? 'no code'}: ${message}` };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** @param certified difference in the certificate; one that crosses a step of eight bits grows to 1/255 */
async function restore(folder: string, certified = 0) {
  const written = await openModelFolder(folder);
  const model = await openLanguageModel(await createNodeEngine(), written);
  try {
    const gap = await gapFromCache(
      model,
      PROMPT.map((token) => token % (model.vocabularySize ?? PROMPT.length)),
    );
    const tolerance = Math.max(certified, isHalf(folder) ? TOLERANCES.half : TOLERANCES.float32);
    if (gap <= tolerance) return { outcome: 'works', gap, hasCache: model.hasCache } as const;
    throw new Error(`from its cache the written model's logits are ${gap.toExponential(1)} of their range off`);
  } finally {
    await model.release();
    await written.close();
  }
}

/** Two steps on the cache of a prompt against one pass over everything; without a cache, a prompt against a longer one. */
async function gapFromCache(model: LanguageModel, tokens: Int32Array): Promise<number> {
  const prompt = tokens.subarray(0, -2);
  const reader = model.createReader();
  const afterPrompt = await reader.read([prompt]);
  if (!model.hasCache) {
    const { data, dims } = await model.readLogits([tokens]);
    const width = dims.at(-1) ?? 1;
    const at = (prompt.length - 1) * width;
    return logitsGap(afterPrompt, Float32Array.from(data.subarray(at, at + width)));
  }
  await reader.read([tokens.subarray(-2, -1)]);
  return logitsGap(await reader.read([tokens.subarray(-1)]), await model.createReader().read([tokens]));
}

function isHalf(folder: string): boolean {
  return /fp16|f16|bf16/.test(readdirSync(folder, { recursive: true }).join(' '));
}

/** Finds the cases in a folder: subfolders with a model, or folders of those. */
export function findCases(root: string): Case[] {
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
    .flatMap(({ name }) => {
      const folder = join(root, name);
      return holdsModel(folder) ? [readCase(name, folder, folder)] : findExporters(name, folder);
    });
}

function findExporters(family: string, folder: string): Case[] {
  if (!existsSync(folder) || !readdirSync(folder, { withFileTypes: true }).some((entry) => entry.isDirectory()))
    return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && holdsModel(join(folder, entry.name)))
    .map(({ name }) => readCase(`${family}-${name}`, join(folder, name), folder));
}

function holdsModel(folder: string): boolean {
  return ['', 'onnx'].some((part) => {
    const place = join(folder, part);
    return existsSync(place) && readdirSync(place).some((name) => name.endsWith('.onnx'));
  });
}

function readCase(name: string, folder: string, described: string): Case {
  const file = join(described, 'reference.json');
  const reference = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  const { exporter, opset, special } = reference as Partial<Record<'exporter' | 'special', string>> & {
    readonly opset?: Readonly<Record<string, number>>;
  };
  return { name, folder, exporter, opset: opset?.['ai.onnx'] ?? opset?.[''], special };
}
