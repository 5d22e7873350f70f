import { NumericalError } from '../errors.js';
import { findEmbeddings } from '../graph/partition.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { ModelFolder } from '../storage/model-folder.js';
import type { JobContext } from './job-context.js';
import { openLanguageModel } from './open-language-model.js';

export interface WindowScreening {
  readonly folder: ModelFolder;
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly engine: Engine;
}

/**
 * Leaves out windows whose first token the model cannot begin with: one whose embedding is zero gives NaN there in some models
 * (linear attention with L2 norms), and so does all that follows it. The embedding table's rows identify such tokens, so windows that begin with
 * another one need no run.
 * @throws NumericalError where no window is left.
 */
export async function leaveOutUnreadable(
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
        'give other text (calibration.source), or set bos to false where the tokenizer puts it there',
    );
  if (readable.length < windows.length)
    remarks.push(
      `${windows.length - readable.length} of ${windows.length} windows were left out: they begin with ${tokens}, whose embedding is zero, ` +
        'and the model gives NaN from there on',
    );
  return readable;
}

/** Whether a row of an embedding table is zero; not known, and so false, of tables that are not plain floats. */
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

/** Tokens of a few that the model gives NaN after. */
async function findUnreadable({ engine, folder }: WindowScreening, tokens: readonly number[]): Promise<Set<number>> {
  const model = await openLanguageModel(engine, folder);
  try {
    const found = new Set<number>();
    for (const token of tokens) {
      const scores = await model.score([Int32Array.of(token, token)], 1);
      if (!scores.every(Number.isFinite)) found.add(token);
    }
    return found;
  } finally {
    await model.release();
  }
}
