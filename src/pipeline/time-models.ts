import { createLanguageModel } from '../evaluation/session-language-model.js';
import { spreadOf } from '../evaluation/speed.js';
import { type TimedTokens, timeDecode, timePrefill } from '../evaluation/time-tokens.js';
import type { Engine } from '../runtime/engine.js';
import { cacheSizes, longestWindowOf, type ModelFolder } from '../storage/model-folder.js';
import type { JobContext } from './job-context.js';
import { openSession } from './open-language-model.js';

/** Speed of one model. */
export interface TimedModel {
  /** Median time to read the prompt (time to first token). */
  readonly promptMs: number;
  /** Median decoding speed after the prompt. */
  readonly tokensPerSecond: number;
}

/** Speeds of several models, in their order. */
export interface TimedModels {
  readonly promptLength: number;
  readonly models: readonly TimedModel[];
}

const TOKENS: TimedTokens = { promptLength: 128, newTokens: 32 };

/** Rounds after a warm-up, each time that a model is opened. */
const ROUNDS = 3;

/**
 * Times models as their users open them, one in memory at a time: in their order and in reverse, so that a temporary
 * slowdown of the machine does not affect only one.
 */
export async function timeModels(
  { onProgress, signal }: Pick<JobContext, 'onProgress' | 'signal'>,
  engine: Engine,
  folders: readonly ModelFolder[],
): Promise<TimedModels> {
  const longest = (await longestWindowOf(folders)) ?? Number.POSITIVE_INFINITY;
  const promptLength = Math.max(1, Math.min(TOKENS.promptLength, longest - TOKENS.newTokens));
  const tokens = { ...TOKENS, promptLength };
  const times = folders.map(() => ({ prompt: [] as number[], writing: [] as number[] }));
  const order = [...folders.keys()];
  const turns = [...order, ...order.toReversed()];
  for (const [done, at] of turns.entries()) {
    onProgress?.({ stage: 'benchmark', done, total: turns.length });
    const session = await openSession(engine, folders[at]!);
    const model = await createLanguageModel({ engine, session, ...cacheSizes(folders[at]!) });
    try {
      for (let round = 0; round <= ROUNDS; round += 1) {
        signal?.throwIfAborted();
        const { ms } = await timePrefill(model, promptLength);
        const writing = await timeDecode(model, tokens);
        if (round === 0) continue;
        times[at]!.prompt.push(ms);
        times[at]!.writing.push(writing);
      }
    } finally {
      await model.release();
    }
  }
  return {
    promptLength,
    models: times.map(({ prompt, writing }) => ({
      promptMs: spreadOf(prompt).median,
      tokensPerSecond: (1000 * tokens.newTokens) / spreadOf(writing).median,
    })),
  };
}
