import { TRAINED } from '../healing/trained-weights.js';
import { GENERATE_DEFAULTS, type ResolvedCalibration, type ResolvedGenerate } from './calibration.js';
import { above, boolean, choice, either, integer, namesOf, portion, record } from './kinds.js';
import { type AnyRows, type Checked, defaultsOf, type OptionsOf, type Resolved, row, withoutFlags } from './option.js';

const PARTS = {
  /** Windows to train on, at least 1. Default 64. */
  windowCount: row('--heal-windows <count>', 'windows to train on', { kind: integer(1), default: 64, common: true }),
  /** Fraction of the windows that the dense model generates, 0 to 1; the others come from the calibration text. Default 1. */
  share: row('--heal-share <share>', 'fraction of them that the dense model generates; the others come from the text', {
    kind: portion,
    default: 1,
  }),
  /** Weights to train. Default `all`. */
  trained: row('--heal-weights <name>', 'weights to train', { kind: choice(namesOf(TRAINED)), default: 'all' }),
  /** Passes over the windows (epochs), at least 1. Default 1. */
  passCount: row('--heal-passes <count>', 'passes over the windows (epochs)', { kind: integer(1), default: 1 }),
  /** Windows per optimizer step (batch size), at least 1. Default 4. */
  windowsPerStep: row('--heal-batch <windows>', 'windows per step (batch size)', { kind: integer(1), default: 4 }),
  /** Highest learning rate. Default: 2e-4 at 135 M parameters, scaled by the inverse cube root of the parameter count. */
  learningRate: row('--heal-rate <rate>', 'highest learning rate', {
    kind: above(0),
    otherwise: '2e-4 at 135 M parameters, scaled by the inverse cube root of the count',
  }),
} as const satisfies AnyRows;

/** Options of training a pruned model on the dense model's predictions. */
export interface HealingOptions extends OptionsOf<typeof PARTS> {}

const settings = record<HealingOptions>('an object such as { windowCount: 64 }');

export const HEALING = {
  /** Trains the result on the dense model's predictions: before rounding, and its scales after rounding to 4 or 2 bits. Default false. */
  heal: row('--heal', 'distil the dense model into the result', {
    kind: either(boolean, settings),
    otherwise: 'false',
    common: true,
    parts: { ...withoutFlags(PARTS), windowCount: PARTS.windowCount, share: PARTS.share },
  }),
} as const satisfies AnyRows;

/** Options of healing after pruning. */
export interface HealOptions extends OptionsOf<typeof HEALING> {}

/** Training options of `heal`. */
export const HEAL_SETTINGS = {
  heal: row(undefined, 'settings of the training', {
    kind: settings,
    otherwise: 'the defaults of its parts',
    parts: PARTS,
  }),
} as const;

/** Healing options with defaults; model-dependent ones are not resolved yet. */
export type ResolvedHealing = Resolved<HealingOptions, typeof PARTS>;

/** Fills in checked options. */
export function resolveHealing(checked: Checked<HealingOptions> | boolean = false): ResolvedHealing | undefined {
  if (checked === false) return undefined;
  return { learningRate: undefined, ...defaultsOf(PARTS), ...(checked === true ? {} : checked) };
}

/** Held-out windows: one per sixteen training windows, within a range. */
const HELD_OUT = { fraction: 1 / 16, least: 2, most: 16 };

export const countHeldOut = ({ windowCount }: Pick<ResolvedHealing, 'windowCount'>): number =>
  Math.min(HELD_OUT.most, Math.max(HELD_OUT.least, Math.round(windowCount * HELD_OUT.fraction)));

/** Calibration options of the training and held-out windows: those of the run with another count and generated share. */
export function healingCalibration(calibration: ResolvedCalibration, healing: ResolvedHealing): ResolvedCalibration {
  const { windowCount, share } = healing;
  const generate: ResolvedGenerate = calibration.generate ?? GENERATE_DEFAULTS;
  return {
    ...calibration,
    windowCount: windowCount + countHeldOut(healing),
    generate: share === 0 ? undefined : { ...generate, share },
    generateIfPossible: generate.file === undefined,
  };
}
