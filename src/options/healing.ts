import { TRAINED, type TrainedName } from '../healing/trained-weights.js';
import { omitUndefined } from '../omit-undefined.js';
import { GENERATE_DEFAULTS, type ResolvedCalibration, type ResolvedGenerate } from './calibration.js';
import { above, boolean, choice, either, type Kind, namesOf, record, text, whole } from './kinds.js';
import { defaultsOf, type Resolved, type Rows, row } from './option.js';

/** How a pruned model learns from the dense one. */
export interface HealingOptions {
  /** Windows to learn on, at least 1. Default 64. */
  readonly windowCount?: number | undefined;
  /** Fraction of the windows cut from the calibration text, 0 to 1; the dense model writes the others. Default 0. */
  readonly textShare?: number | undefined;
  /** What is trained. Default `all`. */
  readonly trained?: TrainedName | undefined;
  /** Times that the windows are gone through, at least 1. Default 1. */
  readonly passCount?: number | undefined;
  /** Windows of one step of the optimiser, at least 1. Default 4. */
  readonly windowsPerStep?: number | undefined;
  /** File (`.jsonl`) that keeps the windows that the dense model writes, as `calibration.generate.file` does. Default: that one. */
  readonly file?: string | undefined;
  /** Highest learning rate. Default: 2e-4 at 135 M parameters, by the cube root of their count for other models. */
  readonly learningRate?: number | undefined;
}

/** What comes after pruning. */
export interface HealOptions {
  /** Trains the pruned model on what the dense one predicts, before it is written. Default false. */
  readonly heal?: HealingOptions | boolean | undefined;
}

const settings = record<HealingOptions>('an object such as { windowCount: 64 }');

const share: Kind<number> = {
  accepts: (value): value is number => typeof value === 'number' && value >= 0 && value <= 1,
  expected: 'a number from 0 to 1',
  reads: 'fraction',
};

const PARTS = {
  windowCount: row('--heal-windows <count>', 'windows to learn on', { kind: whole(1), default: 64 }),
  textShare: row(
    '--heal-text <share>',
    'fraction of them cut from the calibration text; the dense model writes the others',
    {
      kind: share,
      default: 0,
    },
  ),
  trained: row('--heal-weights <name>', 'what is trained', { kind: choice(namesOf(TRAINED)), default: 'all' }),
  passCount: row('--heal-passes <count>', 'times that the windows are gone through', { kind: whole(1), default: 1 }),
  windowsPerStep: row('--heal-batch <windows>', 'windows of one step', { kind: whole(1), default: 4 }),
  file: row('--heal-file <file>', 'a .jsonl file that keeps the windows that the model writes', {
    kind: text('a path that ends in .jsonl', (value) => value.endsWith('.jsonl')),
    otherwise: 'that of calibration',
  }),
  learningRate: row('--heal-rate <rate>', 'highest learning rate', {
    kind: above(0),
    otherwise: '2e-4 at 135 M parameters, by their cube root for others',
  }),
} as const satisfies Rows<HealingOptions>;

export const HEALING = {
  heal: row('--heal', 'train it on what the dense model predicts', {
    kind: either(boolean, settings),
    otherwise: 'false',
    everyday: true,
    parts: PARTS,
  }),
} as const satisfies Rows<HealOptions>;

/** The same settings where healing is all that is asked for. */
export const HOW_TO_HEAL = {
  heal: row(undefined, 'how it learns', { kind: settings, otherwise: 'as its parts say', parts: PARTS }),
} as const;

/** Healing with nothing left open but what the model decides. */
export type ResolvedHealing = Resolved<HealingOptions, typeof PARTS>;

/** Fills in checked options. */
export function resolveHealing(given: HealingOptions | boolean = false): ResolvedHealing | undefined {
  if (given === false) return undefined;
  return {
    learningRate: undefined,
    file: undefined,
    ...defaultsOf(PARTS),
    ...(given === true ? {} : omitUndefined(given)),
  };
}

/** Windows that only check whether healing helps: one for sixteen to learn on, at least and at most so many. */
const CHECKS = { fraction: 1 / 16, least: 2, most: 16 };

export const countHeldOut = ({ windowCount }: Pick<ResolvedHealing, 'windowCount'>): number =>
  Math.min(CHECKS.most, Math.max(CHECKS.least, Math.round(windowCount * CHECKS.fraction)));

/** What the windows to learn on, and those held out, are made from: as calibration, but for their number and shares. */
export function healingCalibration(calibration: ResolvedCalibration, healing: ResolvedHealing): ResolvedCalibration {
  const { windowCount, textShare } = healing;
  const generate: ResolvedGenerate = calibration.generate ?? GENERATE_DEFAULTS;
  const file = healing.file ?? generate.file;
  return {
    ...calibration,
    windowCount: windowCount + countHeldOut(healing),
    generate: textShare === 1 ? undefined : { ...generate, file, share: 1 - textShare },
    generateIfPossible: file === undefined,
  };
}
