import type { OnnxModel } from '../onnx/onnx-model.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { type Batch, type BlockRunner, createBlockRunner } from '../runtime/block-runner.js';
import type { Engine } from '../runtime/engine.js';
import type { TensorStore } from '../runtime/tensor-store.js';

export interface StatesRequest {
  readonly engine: Engine;
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly batches: readonly Batch[];
  /** Receives the hidden states. */
  readonly states: TensorStore;
  /** Stages to run, at least 1; with `stagesOf` the result is the last hidden state. */
  readonly stageCount: number;
  onBatch?(): void;
  readonly signal?: AbortSignal | undefined;
}

/** Runs batches through the first stages of an unchanged model. @returns the runner, to be disposed of by the caller. */
export async function runStages(given: StatesRequest): Promise<BlockRunner> {
  const { analysed, stageCount, onBatch } = given;
  const { cuts } = analysed.detected.partition;
  const runner = createBlockRunner({
    ...given,
    isFixed: true,
    cuts,
    facts: analysed.facts,
    tokenInput: analysed.tokenInput,
  });
  const reads = { ...(onBatch && { onBatch: () => onBatch() }) };
  try {
    for (let stage = 1; stage < stageCount; stage += 1) await runner.pass(reads);
    await runner.advance(reads);
    return runner;
  } catch (error) {
    await runner.dispose();
    throw error;
  }
}

/** Number of stages up to the last hidden state. */
export const stagesOf = ({ detected }: AnalysedModel): number => detected.partition.cuts.length;
