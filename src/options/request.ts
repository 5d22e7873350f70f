import { OptionError } from '../errors.js';
import { factsOf, fillIn, PRUNE_ROWS, type PruneOptions, type ResolvedOptions, readsTokens } from '../options.js';
import {
  type CalibrationOptions,
  type ResolvedCalibration,
  ROUNDING_DEFAULTS,
  resolveCalibration,
} from './calibration.js';
import { PRUNE } from './commands.js';
import type { FolderOptions } from './folder.js';
import { type Fraction, fractionOf } from './kinds.js';
import { type Checked, checkEffect, pickOptions, refusal, rowsOf } from './option.js';
import { learnsRounding, type ResolvedQuantisation, resolveQuantisation, widthMultipleFor } from './quantisation.js';

/** A request with defaults. */
export interface ResolvedRequest {
  readonly options: ResolvedOptions;
  readonly quantisation: ResolvedQuantisation;
  readonly calibration: ResolvedCalibration;
}

/** One run, or several that differ only in sparsity. */
export interface RunRequest extends FolderOptions, Omit<PruneOptions, 'sparsity'> {
  readonly sparsity: Fraction | readonly Fraction[];
}

/**
 * Resolves checked options, and refuses contradictions.
 * @throws OptionError naming the option and its condition.
 */
export function resolveRequest(request: Checked<RunRequest>): ResolvedRequest {
  const { out, dryRun, recipe, evaluation, statistics, stopHealing = false } = request;
  const quantisation = resolveQuantisation(request);
  const { dtypes } = quantisation;
  const sparsities = [request.sparsity].flat().map(fractionOf);
  // A row that ends inside a block would be padded. At sparsity 0 in a ladder widths stay as they are.
  const whole = sparsities.some((sparsity) => sparsity > 0) ? widthMultipleFor(quantisation) : 1;
  const options = fillIn({
    ...(whole > 1 && request.modules !== 'attention' && { widthMultiple: whole }),
    ...pickOptions(request, PRUNE_ROWS),
    sparsity: sparsities[0]!,
  });
  const { shots, calibrationDefaults } = options;
  const facts = factsOf(options);
  const usesTokens = facts.readsTokens || learnsRounding(quantisation) || options.heal !== undefined;
  checkEffect(request, rowsOf(PRUNE), { ...facts, dtypes, readsTokens: usesTokens });
  if (out === undefined && !dryRun) throw refusal('out', 'is missing: name the folder to write, or set dryRun');
  if (recipe !== undefined && shots > 1)
    throw refusal('recipe', `cannot describe ${shots} shots; leave it out, or use one shot`);
  if (typeof evaluation === 'object' && [evaluation.texts ?? [], evaluation.prompts ?? []].flat().length === 0)
    throw refusal('evaluation.texts', 'is missing: give a text to measure on, or a prompt to continue');
  if (typeof evaluation === 'object' && dryRun)
    throw refusal(
      `evaluation.${evaluation.texts === undefined ? 'prompts' : 'texts'}`,
      'measures the written model, and a dryRun writes none; leave one of them out',
    );
  if (stopHealing && options.heal === undefined)
    throw refusal('stopHealing', 'has no effect without heal; leave it out');
  if (statistics !== undefined) checkStatistics(request, options);
  // Whatever the sparsity, since all rungs of a ladder share their windows.
  const onlyRounds = !facts.readsTokens && learnsRounding(quantisation);
  const defaults = onlyRounds ? ROUNDING_DEFAULTS : calibrationDefaults;
  return { options, quantisation, calibration: resolveCalibration(request.calibration, defaults) };
}

/** Refuses options that conflict with statistics: only repairs read tokens then, from the statistics' windows. */
function checkStatistics({ calibration = {}, inputSteps = 0 }: Checked<RunRequest>, options: ResolvedOptions): void {
  const { windowCount, ...others } = calibration;
  const [given] = Object.keys(others);
  if (given !== undefined)
    throw refusal(`calibration.${given}`, 'has no effect with statistics: they were measured on their own windows');
  if (windowCount !== undefined && !repairsFromTokens(options))
    throw refusal(
      'calibration.windowCount',
      `has no effect with statistics: method ${options.methodName} has no repair that reads tokens again`,
    );
  if (inputSteps > 0 && windowCount === undefined)
    throw refusal(
      'inputSteps',
      'reads tokens, and a run from statistics reads none by default; set calibration.windowCount too, to read that many windows of the statistics again',
    );
  const { shots } = options;
  if (shots > 1) throw refusal('statistics', `of the dense model cannot be used for ${shots} shots; use one shot`);
}

/** Whether input repair or the repair of experts reads tokens. */
const repairsFromTokens = ({ inputSteps, adapter, modules }: ResolvedOptions): boolean =>
  inputSteps > 0 || (adapter.needs === 'gram' && modules.has('experts'));

/** Options of the measurement of the dense model. */
export type ObservationOptions = Pick<
  PruneOptions,
  'method' | 'modules' | 'metric' | 'grouping' | 'weighting' | 'seed' | 'onProgress' | 'signal'
>;

/** Resolves the checked options of `observe`. @throws OptionError, also for methods without measurements. */
export function resolveObservation(
  request: Checked<ObservationOptions & { readonly calibration?: CalibrationOptions | undefined }>,
): Omit<ResolvedRequest, 'quantisation'> {
  const options = fillIn({ ...pickOptions(request, PRUNE_ROWS), sparsity: 0 });
  checkEffect(request, PRUNE_ROWS, factsOf(options));
  if (!readsTokens(options))
    throw new OptionError(`method ${options.methodName} reads no tokens, so that there are no statistics to collect`, {
      option: 'method',
    });
  return { options, calibration: resolveCalibration(request.calibration, options.calibrationDefaults) };
}
