import { fitFeatures, projectFeatures } from '../activations/project-features.js';
import type { PrunableModule } from '../architecture/layout.js';
import { UnsupportedModelError } from '../errors.js';
import { clusterContexts } from '../grouping/cluster-contexts.js';
import { findTypicalTokens } from '../grouping/find-typical-tokens.js';
import { copyModel } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { refusal } from '../options/option.js';
import type { JobControl } from '../progress.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { type BlockRunner, createBlockRunner, makeBatches } from '../runtime/block-runner.js';
import type { Engine } from '../runtime/engine.js';
import { createMemoryStore, type TensorStore } from '../runtime/tensor-store.js';

export interface ContextsRequest extends JobControl {
  readonly engine: Engine;
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** Token windows of equal length. */
  readonly windows: readonly Int32Array[];
  /** Block whose FFN input is clustered. Default: the middle one. */
  readonly block?: number | undefined;
  /** Default 12. */
  readonly contextCount?: number | undefined;
  /** Seeds the clustering. Default 0. */
  readonly seed?: number | undefined;
  /** Store for hidden states between blocks. Default: in memory. */
  readonly createStore?: ((windowCount: number) => TensorStore | Promise<TensorStore>) | undefined;
}

/** Contexts (token clusters) of a text. */
export interface CollectedContexts {
  readonly block: number;
  readonly contextCount: number;
  /** Context of every token, windows one after the other. */
  readonly contextOfToken: Int32Array;
  /** Tokens nearest to each context's centre, nearest first. */
  readonly typicalTokens: readonly Int32Array[];
}

const TOKENS_PER_BATCH = 2048;

/**
 * Clusters tokens by the input of one block's FFN, or of its experts, as FANG does, but without bounds on cluster sizes.
 * The default is the middle block, which represents the kind of text best: early blocks represent single tokens, late
 * ones the next token.
 *
 * @throws OptionError for a block that does not exist; UnsupportedModelError for one without a recognised FFN or experts.
 */
export async function collectContexts(request: ContextsRequest): Promise<CollectedContexts> {
  const { windows, contextCount = 12, seed = 0 } = request;
  const module = chooseModule(request);
  const runner = await startRunner(request);
  try {
    const { signal, onProgress } = request;
    for (let segment = 0; segment < module.segment; segment += 1) {
      signal?.throwIfAborted();
      await runner.advance();
      onProgress?.({ stage: 'contexts', done: segment + 1, total: module.segment });
    }
    const { pca, points } = await projectTokens(runner, module, request.analysed);
    const found = clusterContexts({
      points,
      dimensionCount: pca.componentCount,
      contextCount: Math.min(contextCount, windows.length * (windows[0]?.length ?? 0)),
      clusterBalance: Number.POSITIVE_INFINITY,
      seed,
    });
    return {
      block: module.block,
      contextCount: found.contextCount,
      contextOfToken: found.contextOfToken,
      typicalTokens: findTypicalTokens({ points, ...found }),
    };
  } finally {
    await runner.dispose();
  }
}

function chooseModule({ analysed, block }: ContextsRequest): PrunableModule {
  const { modules, blockCount } = analysed.detected.layout;
  const wanted = block ?? Math.floor(blockCount / 2);
  if (!Number.isInteger(wanted) || wanted < 0 || wanted >= blockCount) {
    throw refusal('block', `is ${String(block)}; the model has blocks 0..${blockCount - 1}`);
  }
  const kinds = ['ffn', 'experts'] as const;
  const [module] = kinds.flatMap((kind) => modules.filter((own) => own.kind === kind && own.block === wanted));
  if (module === undefined) {
    throw new UnsupportedModelError(
      `block ${wanted} has neither an FFN nor experts that were recognised; choose another block`,
    );
  }
  return module;
}

async function startRunner(request: ContextsRequest): Promise<BlockRunner> {
  const { engine, model, analysed, windows, signal, createStore = createMemoryStore } = request;
  const length = windows[0]?.length ?? 1;
  return createBlockRunner({
    isFixed: true,
    engine,
    model: copyModel(model),
    cuts: analysed.detected.partition.cuts,
    facts: analysed.facts,
    tokenInput: analysed.tokenInput,
    batches: makeBatches(windows, Math.min(Math.max(1, Math.round(TOKENS_PER_BATCH / length)), analysed.rowLimit)),
    states: await createStore(windows.length),
    signal,
  });
}

/** Projects the FFN's inputs onto their principal components. */
async function projectTokens(runner: BlockRunner, { input }: PrunableModule, { facts, detected }: AnalysedModel) {
  const width = facts.first.get(input)?.dims.at(-1) ?? detected.layout.hiddenSize;
  const pca = await fitFeatures(runner, { value: input, width });
  return { pca, points: await projectFeatures(runner, { value: input, pca }) };
}
