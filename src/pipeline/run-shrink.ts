import { omit } from '../omit.js';
import { SHRINK } from '../options/commands.js';
import type { FolderOptions } from '../options/folder.js';
import type { HealOptions } from '../options/healing.js';
import { type Checked, checkOptions, pickOptions, refusal, rowsOf } from '../options/option.js';
import type { RunOptions } from '../options/run.js';
import { bitsOf, type ResolvedShrink, resolveShrink, type ShrinkOptions } from '../options/shrink.js';
import { VOCABULARY, type VocabularyOptions } from '../options/vocabulary.js';
import type { PruneReport } from '../report/report-schema.js';
import type { EngineChoice, Platform } from '../runtime/platform.js';
import type { SourceOptions } from '../storage/model-folder.js';
import type { PruneRequest } from './prune-request.js';
import { checkVocabularyOptions } from './read-token-selection.js';
import { pruneTo, rungPlaces } from './run-prune.js';
import type { StagesOption } from './stages.js';
import type { JobVocabulary } from './trimmed-folder.js';
import type { ResultPaths } from './write-result.js';

/** A model and target sizes. */
export interface ShrinkRequest
  extends Omit<
      FolderOptions,
      'dtype' | 'statistics' | 'weightsFrom' | 'rounding' | 'blockSize' | 'symmetric' | 'accuracyLevel'
    >,
    ShrinkOptions,
    Omit<VocabularyOptions, 'texts'>,
    HealOptions,
    RunOptions,
    SourceOptions,
    EngineChoice,
    StagesOption {
  /**
   * Your calibration text, `.txt` or `.jsonl`; its last part is used to choose among candidates. With a trimmed
   * vocabulary, tokens of its first three quarters remain. Default: a bundled text.
   */
  readonly text?: string | undefined;
}

/** Reports of the requested sizes, in order. */
export type ShrinkReports = readonly [PruneReport, ...PruneReport[]];

/**
 * Makes the best model of each requested size: fewer units, fewer bits, or both, compared on held-out windows. The
 * vocabulary is trimmed first, if requested.
 */
export async function runShrink(platform: Platform, given: ShrinkRequest): Promise<ShrinkReports> {
  const request = checkOptions(given, rowsOf(SHRINK));
  const shrink = checkShrink(request);
  const reports = await pruneTo(platform, pruneRequestOf(request, shrink), {
    results: sizePaths(platform, request, shrink),
    shrink,
    vocabulary: vocabularyOf(request),
  });
  return reports as readonly PruneReport[] as ShrinkReports;
}

/** Options of `shrink` that `prune` does not have. */
const SIZE_OPTIONS = ['allow', 'dtypes', 'targetSize', 'targetMemory', 'contextLength'] as const;
export const TOKEN_OPTIONS = ['keepLanguages', 'vocabularySize', 'vocabulary'] as const;

/** The `prune` request for all sizes. */
export function pruneRequestOf(request: Checked<ShrinkRequest>, shrink: ResolvedShrink): Checked<PruneRequest> {
  const { text, calibration } = request;
  const hasSource = text !== undefined && readsText(shrink);
  return {
    ...omit(request, 'text', 'calibration', ...SIZE_OPTIONS, ...TOKEN_OPTIONS),
    ...(hasSource && { calibration: { ...calibration, source: { file: text } } }),
    ...(!hasSource && calibration !== undefined && { calibration }),
    ...measurementOptions(shrink),
  };
}

/** Resolves the sizes, and refuses contradictory options before a model is opened. @param isPlan whether sizes are optional @throws OptionError */
export function checkShrink(request: Checked<ShrinkRequest>, isPlan = false): ResolvedShrink {
  const { text, calibration, heal } = request;
  const shrink = resolveShrink(request, isPlan);
  const vocabulary = vocabularyOf(request);
  if (vocabulary === undefined && request.allow?.includes('vocabulary'))
    throw refusal(
      'allow',
      'includes the vocabulary, and no option names the tokens that remain; give keepLanguages, vocabularySize or vocabulary, or leave the vocabulary out',
    );
  if (text !== undefined && calibration?.source !== undefined)
    throw refusal('text', 'and calibration.source name two texts; leave one of them out');
  if (text !== undefined && !usesText(request, shrink))
    throw refusal(
      'text',
      'has no effect if only 8 bits are allowed, since they need no calibration; leave it out, or allow dtypes of fewer bits or other reductions',
    );
  if (heal && !readsText(shrink))
    throw refusal(
      'heal',
      'has no effect if only 8 bits are allowed; leave it out, or allow dtypes of fewer bits or other reductions',
    );
  if (vocabulary !== undefined) checkTrimming(request);
  return shrink;
}

/** Whether the text calibrates, or decides which tokens remain. */
export const usesText = (request: Checked<ShrinkRequest>, shrink: ResolvedShrink): boolean =>
  readsText(shrink) || vocabularyOf(request) !== undefined;

const prunes = ({ allow }: ResolvedShrink): boolean => [...allow].some((reduction) => reduction !== 'bits');

/** Whether pruning or rounding is calibrated, and its result can be healed. */
export const readsText = (shrink: ResolvedShrink): boolean =>
  prunes(shrink) || shrink.dtypes.some((dtype) => bitsOf(dtype) < 8);

/** Vocabulary options; undefined without trimming. */
export function vocabularyOf(request: Checked<ShrinkRequest>): JobVocabulary | undefined {
  const tokens = pickOptions(request, VOCABULARY);
  return Object.keys(tokens).length === 0 ? undefined : { ...tokens, text: request.text };
}

/** Refuses options with token ids, and recipes, which belong to the untrimmed vocabulary. @throws OptionError */
function checkTrimming({ recipe, calibration, ...request }: ShrinkRequest): void {
  checkVocabularyOptions(request);
  if (recipe !== undefined)
    throw refusal(
      'recipe',
      'applies only to the model that it was created from; trim its vocabulary first (trim-vocabulary), and shrink the result with recipe',
    );
  const { source, generate } = calibration ?? {};
  if (source !== undefined && 'tokens' in source)
    throw refusal(
      'calibration.source',
      'contains token ids, which are other tokens in the trimmed vocabulary; give text',
    );
  if (typeof generate === 'object' && generate.startToken !== undefined)
    throw refusal(
      'calibration.generate.startToken',
      'is an id, which is another token in the trimmed vocabulary; leave it out',
    );
}

/** Paths of results: the given ones, or, for several sizes, named by size. */
export function sizePaths(
  { files }: Platform,
  request: ShrinkRequest,
  { targets }: ResolvedShrink,
): readonly ResultPaths[] {
  const rungs = targets.map(({ name }) => ({ sparsity: 0, name }));
  const isNamed = Array.isArray(request.targetSize ?? request.targetMemory);
  const places = rungPlaces(files, request, { rungs, isNamed });
  return places.map((place, at) => ({ ...place, targetBytes: targets[at]!.bytes }));
}

/** Measurement options for all sizes, with a placeholder budget. */
function measurementOptions(shrink: ResolvedShrink): Pick<Checked<PruneRequest>, 'sparsity' | 'method' | 'dtype'> {
  const { allow, dtypes, contextLength } = shrink;
  const [fewest] = dtypes.slice(-1);
  const sizeOptions = { allow: [...allow].sort(), dtypes, contextLength };
  return {
    ...sizeOptions,
    ...(prunes(shrink) ? { sparsity: 0.5 } : { sparsity: 0, method: 'magnitude' }),
    ...(fewest !== undefined && { dtype: fewest }),
  };
}
