import type * as library from '../node.js';

/** Port to the library: what the commands call. `src/node.ts` fits it, and so do test doubles. */
export type CliApi = Pick<
  typeof library,
  | 'plan'
  | 'prune'
  | 'pruneLadder'
  | 'quantize'
  | 'shrink'
  | 'observe'
  | 'mergeStatistics'
  | 'applyRecipe'
  | 'heal'
  | 'trimVocabulary'
  | 'describe'
  | 'evaluateModels'
  | 'compareEvaluations'
  | 'compareFiles'
  | 'benchmark'
  | 'generateText'
  | 'measureCalibrationBias'
  | 'rebuildReport'
  | 'push'
>;
