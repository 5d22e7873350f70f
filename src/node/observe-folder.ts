import { stat } from 'node:fs/promises';
import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import { OptionError } from '../errors.js';
import {
  type CalibrationOptions,
  type MetricName,
  type PruneOptions,
  readsTokens,
  resolveCalibration,
  resolveOptions,
} from '../options.js';
import { collectDense, keptSums } from '../prune/collect-dense.js';
import type { KeptSums } from '../prune/dense-statistics.js';
import type { StageTiming } from '../prune/job.js';
import { storeInMemory } from '../removal/repair-linear.js';
import { createStatisticsPacker } from '../report/pack-statistics.js';
import { plainSettings } from '../report/plain-settings.js';
import { type SavedStatistics, STATISTICS_SCHEMA } from '../report/statistics-schema.js';
import { VERSION } from '../version.js';
import { runIsolated } from './isolate.js';
import { checkPairPlace, resolvePair, writePair } from './json-with-tensors.js';
import type { EmbeddingsOption } from './model-folder.js';
import { originOf } from './model-origin.js';
import type { EngineChoice } from './node-engine.js';
import { withPruneJob } from './open-prune-job.js';
import { peakMemoryBytes } from './peak-memory.js';
import { withModelFolder } from './with-model-folder.js';
import { withTensorStore } from './with-tensor-store.js';

/** What of a pruning run decides what must be seen of the dense model. */
type LookOptions = Pick<
  PruneOptions,
  'method' | 'modules' | 'metric' | 'grouping' | 'weighting' | 'seed' | 'batchSize' | 'onProgress' | 'signal'
>;

/** A look at a model folder whose statistics are kept. */
export interface ObserveRequest extends LookOptions, EmbeddingsOption, EngineChoice {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file. */
  readonly model: string;
  /** Folder that gets `statistics.json` and `statistics.safetensors`, or the path of such a `.json` file. */
  readonly out: string;
  /** Replace statistics that exist. Default false. */
  readonly force?: boolean | undefined;
  readonly calibration?: CalibrationOptions | undefined;
  /** Where hidden states wait between blocks. Default: in memory up to 256 MiB (those of all blocks up to 16), else in a temporary file. */
  readonly hiddenStates?: 'memory' | 'spill' | undefined;
}

/** Statistics that were written. */
export interface ObservedFolder {
  readonly model: string;
  /** The JSON file; the tensors lie beside it. */
  readonly out: string;
  readonly method: string;
  readonly seed: number;
  /** Of every channel: means and variances, or Gram matrices too. */
  readonly sums: KeptSums;
  /** `loss` and `divergence`: its gradients were taken. */
  readonly metric: MetricName;
  /** Whether neurons were grouped by function. */
  readonly grouped: boolean;
  readonly moduleCount: number;
  readonly calibration: CalibrationProvenance;
  /** Both files. */
  readonly bytes: number;
  readonly timings: readonly StageTiming[];
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

/**
 * Looks once at a dense model and keeps what pruning reads of tokens, so that `prune({ statistics })` can prune at any
 * sparsity, and by every method that reads no more, without running the model on text again. What is seen is what `method`
 * needs, `metric` and `grouping` added to it: `{ method: 'o-fang', metric: 'divergence' }` sees what any method reads. The files
 * appear under their names when they are complete.
 *
 * @throws OptionError, ModelFormatError, UnsupportedModelError, NumericalError, EngineError; the signal's reason when aborted.
 * @example
 * await observe({ model: './model', out: './statistics' });
 * await prune({ model: './model', out: './smaller', sparsity: 0.3, statistics: './statistics' });
 */
export async function observe(request: ObserveRequest): Promise<ObservedFolder> {
  if (request.isolate) return runIsolated('observe', request);
  const place = resolvePair('statistics', request.out);
  const { method, modules, metric, grouping, weighting, seed, batchSize, onProgress, signal } = request;
  const look: LookOptions = { method, modules, metric, grouping, weighting, seed, batchSize, onProgress, signal };
  const options = resolveOptions({ ...look, sparsity: 0 });
  if (!readsTokens(options))
    throw new OptionError(`method ${options.methodName} looks at no token, so that there is nothing to observe`);
  const calibration = resolveCalibration(request.calibration, options.calibrationDefaults);
  const { executionProvider, engine, hiddenStates, force } = request;
  await checkPairPlace(place, { force });
  return withModelFolder(request.model, request, (folder) =>
    withPruneJob({ folder, options, calibration, executionProvider, engine, hiddenStates }, (opened) =>
      withTensorStore(async (store) => {
        const { job } = opened;
        const { layout } = job.analysed.detected;
        const { provenance, remarks } = opened.calibration!;
        const packer = createStatisticsPacker(store);
        const collected = await collectDense({ ...job, store: storeInMemory }, packer.addModule);
        const packed = await packer.finish(collected.dense, job.windows);
        const saved: Omit<SavedStatistics, 'tensors'> = {
          schema: STATISTICS_SCHEMA,
          version: VERSION,
          model: await originOf(folder, job.model, { layout, signal }),
          method: options.methodName,
          seed: options.seed,
          sums: keptSums(options),
          metric: options.metric,
          settings: plainSettings(options),
          calibration: provenance,
          modules: packed.modules,
          remarks: [...remarks, ...collected.remarks],
        };
        signal?.throwIfAborted();
        onProgress?.({ stage: 'save', done: 0, total: 1 });
        const start = performance.now();
        await writePair(place, saved, packed.tensors);
        const memory = peakMemoryBytes();
        return {
          model: request.model,
          out: place.json,
          method: saved.method,
          seed: saved.seed,
          sums: saved.sums,
          metric: saved.metric,
          grouped: options.grouping !== undefined,
          moduleCount: saved.modules.length,
          calibration: provenance,
          bytes: (await stat(place.json)).size + (await stat(place.tensors)).size,
          timings: [...opened.timings, ...collected.timings, { stage: 'save', ms: performance.now() - start }],
          ...(memory !== undefined && { peakMemoryBytes: memory }),
          remarks: saved.remarks,
        };
      }),
    ),
  );
}
