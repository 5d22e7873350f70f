import type { AnalysedModel } from './analyse-model.js';
import type { Batch, SideValues } from './block-runner.js';
import type { Tensor } from './engine.js';
import { prefillFeeds } from './prefill-feeds.js';

export interface StageFeedRequest {
  /** Values that the stage reads from outside. */
  readonly names: readonly string[];
  /** The one that is the hidden state. */
  readonly input: string;
  readonly hidden: Tensor;
  readonly batch: Batch;
}

/** Sources of the other feeds. */
export interface FeedSources {
  readonly analysed: Pick<AnalysedModel, 'inputs'>;
  /** Absent: the stage reads no other values of earlier stages. */
  readonly side?: Pick<SideValues, 'get'>;
}

/** Feeds of a stage that starts at a hidden state: the hidden state, the model's inputs, and other values of earlier stages. */
export function stageFeeds(
  { analysed, side }: FeedSources,
  { names, input, hidden, batch }: StageFeedRequest,
): Record<string, Tensor> {
  const inputs = analysed.inputs.filter(({ name }) => names.includes(name));
  const feeds = prefillFeeds(inputs, batch, batch.tokens);
  for (const name of names) feeds[name] ??= name === input ? hidden : side!.get(name, batch);
  return feeds;
}
