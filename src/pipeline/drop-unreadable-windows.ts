import { NumericalError } from '../errors.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { findEmbeddings } from '../onnx/partition.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder } from '../storage/model-folder.js';
import type { JobContext } from './job-context.js';
import { withLanguageModel } from './open-language-model.js';

export interface WindowScreening {
  readonly folder: ModelFolder;
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly engine: Engine;
}

/**
 * Drops windows whose first token has a zero embedding, if the model gives NaN for it and all following tokens (linear
 * attention with L2 norms). The embedding table is checked first, so that other windows need no run.
 * @throws NumericalError if no window is left.
 */
export async function dropUnreadableWindows(
  { remarks }: Pick<JobContext, 'remarks'>,
  screening: WindowScreening,
  windows: readonly Int32Array[],
): Promise<readonly Int32Array[]> {
  const first = [...new Set(windows.map(([token = 0]) => token))];
  const suspects: number[] = [];
  for (const token of first) if (await hasZeroEmbedding(screening, token)) suspects.push(token);
  if (suspects.length === 0) return windows;
  const unreadable = await findUnreadable(screening, suspects);
  const readable = windows.filter(([token = 0]) => !unreadable.has(token));
  const tokens = `${unreadable.size === 1 ? 'token' : 'tokens'} ${[...unreadable].join(', ')}`;
  if (readable.length === 0 && windows.length > 0)
    throw new NumericalError(
      `all ${windows.length} calibration windows begin with ${tokens}, whose embedding is zero, and the model gives NaN from there on; ` +
        'give other text (calibration.source), or set bos to false if the tokenizer adds this token',
    );
  if (readable.length < windows.length)
    remarks.push(
      `${windows.length - readable.length} of ${windows.length} windows were left out: they begin with ${tokens}, whose embedding is zero, ` +
        'and the model gives NaN from there on',
    );
  return readable;
}

/** Whether a row of the embedding table is zero; false for tables that are not plain floats. */
async function hasZeroEmbedding({ model, analysed }: WindowScreening, token: number): Promise<boolean> {
  const { index } = analysed.detected;
  for (const at of findEmbeddings(index, analysed.tokenInput)) {
    const handle = model.weights.get(index.nodes[at]!.input[0] ?? '');
    const [rows = 0, width = 0] = handle?.dims ?? [];
    if (handle === undefined || handle.dims.length !== 2 || token >= rows) continue;
    const rowBytes = handle.byteLength / rows;
    if (!Number.isInteger(rowBytes / width)) continue;
    const bytes = await handle.read({ offset: token * rowBytes, length: rowBytes });
    if (bytes.every((byte) => byte === 0)) return true;
  }
  return false;
}

/** Tokens after which the model gives NaN. */
function findUnreadable({ engine, folder }: WindowScreening, tokens: readonly number[]): Promise<Set<number>> {
  return withLanguageModel(engine, folder, {}, async (model) => {
    const found = new Set<number>();
    for (const token of tokens) {
      const scores = await model.score([Int32Array.of(token, token)], 1);
      if (!scores.every(Number.isFinite)) found.add(token);
    }
    return found;
  });
}
