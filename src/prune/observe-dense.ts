import { collectStatistics } from '../activations/collect-statistics.js';
import { measureAffinity, type TokenContexts } from '../activations/measure-affinity.js';
import { createChangeMeter } from '../activations/measure-change.js';
import { projectFeatures } from '../activations/project-features.js';
import { type BlockSpan, blockSpans, type PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';
import { clusterContexts } from '../grouping/cluster-contexts.js';
import { findTypicalTokens } from '../grouping/find-typical-tokens.js';
import { groupNeurons, type NeuronGroups } from '../grouping/group-neurons.js';
import { fitPca, type Pca } from '../linalg/pca.js';
import { copyModel } from '../onnx/edit-weights.js';
import type { ResolvedGrouping } from '../options.js';
import type { BlockRunner } from '../runtime/block-runner.js';
import type { HiddenStates } from '../runtime/hidden-states.js';
import { type Run, segmentName } from './run.js';

/** Contexts of one FFN's tokens, and how to tell a new token's. */
export interface ModuleContexts {
  /** Value that the contexts are seen in. */
  readonly feature: string;
  readonly pca: Pca;
  /** `[contextCount, pca.componentCount]` row-major. */
  readonly centers: Float64Array;
  readonly contextCount: number;
  /** Context of every calibration token in the dense model. */
  readonly contextOfToken: Int32Array;
  /** Tokens nearest to each context's centre, nearest first: what a reader of the report is shown. */
  readonly typicalTokens: readonly Int32Array[];
}

/** An FFN whose neurons are grouped by function. */
export interface FunctionalModule {
  readonly contexts: ModuleContexts;
  readonly groups: NeuronGroups;
  /** `S[k][j]`, `[contextCount, neurons]` row-major: how much each context uses each neuron. */
  readonly affinity: Float64Array;
}

/** What one look at the dense model taught, as far as the options need it. */
export interface DenseObservation {
  /** FC by block. */
  readonly blockChange?: Float64Array;
  /** Mean |h dL/dh| per neuron by block: how much the loss hangs on it. */
  readonly sensitivity?: Float64Array;
  readonly functional: ReadonlyMap<PrunableModule, FunctionalModule>;
}

/** PCA keeps at most this many dimensions (method section 1). */
const PCA_DIMENSIONS = 64;

/** Enough that a few different ones are among them. */
const TYPICAL_TOKEN_COUNT = 64;

/** What the dense model is looked at for. */
export interface DenseNeeds {
  readonly blockChange: boolean;
  readonly sensitivity: boolean;
  readonly grouping: ResolvedGrouping | undefined;
  /** FFN modules that take part. */
  readonly modules: readonly PrunableModule[];
}

/** Looks at the dense model once forwards and, for groups or sensitivity, once backwards. */
export async function observeDense(run: Run, needs: DenseNeeds): Promise<DenseObservation> {
  const { job, batches } = run;
  const { layout } = job.analysed.detected;
  const backwards = needs.grouping !== undefined || needs.sensitivity;
  if (!backwards && !needs.blockChange) return { functional: new Map() };
  const spans = blockSpans(layout);
  const model = copyModel(job.model);
  const runner = await run.startRunner(model);
  const archive = await job.createStates((backwards ? spans.length + 1 : 1) * job.windows.length);
  const cotangents = await job.createStates(job.windows.length);
  try {
    const seen = await lookForwards(run, { runner, archive, spans, needs });
    if (!backwards) return { functional: new Map(), blockChange: seen.blockChange };
    const targets = new Map<PrunableModule, TokenContexts>(
      needs.modules.map((module) => [module, seen.contexts.get(module) ?? oneContext(run)]),
    );
    const { affinity } = await run.timed('backward', () =>
      measureAffinity({
        engine: job.engine,
        model,
        analysed: job.analysed,
        batches,
        spans,
        archive,
        side: runner.side,
        targets,
        cotangents,
        onBatch: (detail) => run.tick(detail),
        signal: job.options.signal,
      }),
    );
    return {
      blockChange: seen.blockChange,
      sensitivity: blockSensitivity(layout.blockCount, affinity, targets),
      functional: groupAll(run, seen.contexts, affinity, needs.grouping),
    };
  } finally {
    await Promise.all([runner.dispose(), archive.dispose(), cotangents.dispose()]);
  }
}

interface Look {
  readonly runner: BlockRunner;
  readonly archive: HiddenStates;
  readonly spans: readonly BlockSpan[];
  readonly needs: DenseNeeds;
}

async function lookForwards(run: Run, { runner, archive, spans, needs }: Look) {
  const { job, batches } = run;
  const { layout } = job.analysed.detected;
  const contexts = new Map<PrunableModule, ModuleContexts>();
  const blockChange = new Float64Array(layout.blockCount);
  const tokenCount = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  await run.advance(runner);
  const keep = async (span: number) => {
    for (const { index } of batches) await archive.put(span * batches.length + index, await runner.states.get(index));
  };
  const [first] = batches;
  const meter = await createChangeMeter(
    job.engine,
    first === undefined ? 'float32' : (await runner.states.get(first.index)).type,
  );
  try {
    await keep(0);
    for (const [at, span] of spans.entries()) {
      for (let segment = span.first; segment <= span.last; segment += 1) {
        for (const module of needs.grouping === undefined
          ? []
          : needs.modules.filter((one) => one.segment === segment)) {
          contexts.set(module, await run.timed('contexts', () => findContexts(run, runner, module)));
        }
        await run.advance(runner);
      }
      for (const { index } of batches) {
        const before = await archive.get(at * batches.length + index);
        blockChange[span.block]! += (await meter.measure(before, await runner.states.get(index))) / tokenCount;
      }
      await keep(at + 1);
    }
  } finally {
    await meter.release();
  }
  return { contexts, blockChange };
}

/** Clusters the tokens by what the FFN reads; cheap, since nothing but the norm in front of it runs. */
async function findContexts(run: Run, runner: BlockRunner, module: PrunableModule): Promise<ModuleContexts> {
  const { options, analysed } = run.job;
  const grouping = options.grouping!;
  const { layout } = analysed.detected;
  const feature = grouping.features === 'residual' ? layout.segments[module.segment - 1]!.input : module.input;
  const detail = segmentName(module.segment, layout.modules);
  const width = analysed.facts.first.get(feature)?.dims.at(-1) ?? layout.hiddenSize;
  const all = [Int32Array.from({ length: width }, (_, channel) => channel)];
  const target = { linear: { node: feature, input: feature, inputCount: width }, needs: 'gram' as const, groups: all };
  const [[statistics]] = (await collectStatistics(runner, { targets: [target] })) as [[ChannelStatistics]];
  const pca = fitPca(statistics.mean, covariance(statistics), Math.min(PCA_DIMENSIONS, width));
  const points = await projectFeatures(runner, { value: feature, pca });
  const { contextCount, clusterBalance, fitCount } = grouping;
  const found = clusterContexts({
    points,
    dimensionCount: pca.componentCount,
    contextCount,
    clusterBalance,
    fitCount,
    seed: options.seed,
    centers: run.job.centersOf?.(module),
  });
  run.remarks.push(...found.remarks.map((remark) => `${detail}: ${remark}`));
  return {
    feature,
    pca,
    centers: found.centers,
    contextCount: found.contextCount,
    contextOfToken: found.contextOfToken,
    typicalTokens: findTypicalTokens({ points, ...found, count: TYPICAL_TOKEN_COUNT }),
  };
}

function covariance({ gram, mean }: ChannelStatistics): Float64Array {
  const size = mean.length;
  return gram!.map((value, at) => value - mean[Math.floor(at / size)]! * mean[at % size]!);
}

const oneContext = ({ batches }: Run): TokenContexts => ({
  contextCount: 1,
  contextOfToken: new Int32Array(batches.reduce((sum, { tokens }) => sum + tokens.length, 0)),
});

function blockSensitivity(
  blockCount: number,
  affinity: ReadonlyMap<PrunableModule, Float64Array>,
  targets: ReadonlyMap<PrunableModule, TokenContexts>,
): Float64Array {
  const sensitivity = new Float64Array(blockCount);
  for (const [module, sums] of affinity) {
    const { contextCount, contextOfToken } = targets.get(module)!;
    const counts = new Float64Array(contextCount);
    for (const context of contextOfToken) counts[context]! += 1;
    sums.forEach((value, at) => {
      const share = counts[Math.floor(at / module.unitCount)]! / contextOfToken.length;
      sensitivity[module.block]! += (share * value) / module.unitCount;
    });
  }
  return sensitivity;
}

function groupAll(
  run: Run,
  contexts: ReadonlyMap<PrunableModule, ModuleContexts>,
  affinity: ReadonlyMap<PrunableModule, Float64Array>,
  grouping: ResolvedGrouping | undefined,
): Map<PrunableModule, FunctionalModule> {
  if (grouping === undefined) return new Map();
  const { assignment, sharedGroup } = grouping;
  return new Map(
    [...contexts].map(([module, found]) => {
      const { contextCount } = found;
      const scores = affinity.get(module)!;
      const groups = groupNeurons({ affinity: scores, contextCount, assignment, sharedGroup, random: run.random });
      return [module, { contexts: found, groups, affinity: scores }];
    }),
  );
}
