/** A process of its own for one call of the library. Told by messages what to do and when to stop. */
import type { Progress } from '../progress.js';
import { applyRecipe } from './apply-recipe.js';
import { measureCalibrationBias } from './bias-folder.js';
import { describe } from './describe-folder.js';
import { generateText, perplexity } from './evaluate-folder.js';
import { evaluateModels } from './evaluate-models.js';
import type { FromWorker, IsolatedCall, ToWorker } from './isolate.js';
import { observe } from './observe-folder.js';
import { prune, pruneLadder } from './prune-folder.js';
import { toSentError } from './revive-error.js';

const CALLS = {
  applyRecipe,
  describe,
  evaluateModels,
  generateText,
  measureCalibrationBias,
  observe,
  perplexity,
  prune,
  pruneLadder,
} as const satisfies Record<IsolatedCall, unknown>;

const abortion = new AbortController();
const tell = (message: FromWorker) => process.send?.(message);

process.on('message', (message: ToWorker) => {
  if ('abort' in message) abortion.abort();
  else void run(message.call, message.request);
});
// Whoever asked is gone.
process.on('disconnect', () => process.exit());

async function run(call: IsolatedCall, request: object): Promise<void> {
  const job = CALLS[call] as (request: object) => Promise<unknown>;
  const control = { onProgress: (progress: Progress) => tell({ progress }), signal: abortion.signal };
  await job({ ...request, ...control }).then(
    (answer) => tell({ answer }),
    (error) => tell({ error: toSentError(error) }),
  );
}
