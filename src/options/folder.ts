import { CALIBRATION, type CalibrationOptions } from './calibration.js';
import { boolean, either, record, text } from './kinds.js';
import { type AnyRows, type OptionsOf, type Rows, row } from './option.js';
import type { QuantisationOptions } from './quantisation.js';
import { type ReadingOptions, TEXT_EVALUATION, type TextEvaluation } from './texts.js';

/** Options of a run that reads and writes model folders. */
export interface FolderOptions
  extends QuantisationOptions,
    ReadingOptions,
    OptionsOf<typeof RESULT>,
    OptionsOf<typeof EVALUATION> {
  /** A folder in transformers.js or onnxruntime-genai layout, or an `.onnx` file. */
  readonly model: string;
  /** Which tokens pruning watches the model on. Default: a bundled text, for `auto` together with text that the model writes. */
  readonly calibration?: CalibrationOptions | undefined;
  /**
   * Statistics that `observe` wrote of this model: a folder with `statistics.json`, or the path of such a file. The model
   * is not run on calibration text then; `calibration` is theirs, and `grouping`, `weighting` and `seed` must be. With
   * `calibration.windowCount` so many of their windows are read again, for input repair and the repair of experts. Default:
   * the model is measured.
   */
  readonly statistics?: string | undefined;
  /**
   * Resume from the checkpoints of the same run in `<out>.partial`: the same model, options and version. False begins
   * again. Default true.
   */
  readonly resume?: boolean | undefined;
  /**
   * Where `heal` was interrupted in the same run, take the best weights of its checkpoint and train no further. Default false.
   */
  readonly stopHealing?: boolean | undefined;
}

type Of<Names extends keyof FolderOptions> = Rows<Pick<FolderOptions, Names>>;

export const force = { kind: boolean, default: false, flag: '--force', everyday: true };

export const RESULT = {
  /** Folder to be made; may be left out for a dry run. */
  out: row('-o, --out <folder>', 'where the pruned model goes', {
    kind: text('a path'),
    otherwise: 'none for a dry run',
    everyday: true,
  }),
  /** Replace `out` where it is empty, or holds nothing but what an earlier run wrote. Default false. */
  force: { ...force, help: 'replace a folder that an earlier run wrote' },
  /** Decide everything and report it, but write no model; takes as long as a run. `plan` estimates sizes and time at once. Default false. */
  dryRun: row(
    '--dry-run',
    'check all, estimate sizes and time; with --report, --recipe or --statistics also choose what is removed',
    {
      kind: boolean,
      default: false,
      everyday: true,
    },
  ),
  /** Path of the report, ending in `.json`. Default: `fang-prune-report.json` in `out`; `false` writes none. */
  report: row('--report <file>', 'where the report goes, ending in .json', {
    kind: {
      ...either(
        boolean,
        text('a path that ends in .json', (path) => path.endsWith('.json')),
      ),
      typed: 'a path that ends in .json',
    },
    otherwise: 'next to the pruned model',
    no: 'write no report',
  }),
  /** Quote calibration text in the report, to show what contexts are about. Default true. */
  quoteText: row('--no-quotes', 'quote no calibration text in the report', { kind: boolean, default: true }),
  /**
   * Write absolute paths of this machine into the report. Default false: names alone, as `push` uploads it in any case.
   */
  reportPaths: row(undefined, 'write absolute paths into the report, and not names alone', {
    kind: boolean,
    default: false,
  }),
  /**
   * Open what was written and compare its logits with the masked original's; a run whose result computes something else
   * fails and leaves nothing. Default true.
   */
  certify: row('--no-certify', 'do not compare what was written with the masked original', {
    kind: boolean,
    default: true,
  }),
  /**
   * Writes what was decided, for `applyRecipe`: a folder that gets `recipe.json` and `recipe.safetensors`, or the path of
   * such a `.json` file. Replaced only with `force`. Default: none is written.
   */
  recipe: row('--recipe <path>', 'write the removed units and changed weights there, for apply', {
    kind: text('a folder or a path that ends in .json'),
    otherwise: 'none',
  }),
} as const satisfies AnyRows;

export const CALIBRATION_OR_STATISTICS = {
  ...CALIBRATION,
  statistics: row('--statistics <path>', 'prune from statistics that observe saved', {
    kind: text('a folder or a path that ends in .json'),
    otherwise: 'none',
    everyday: true,
  }),
} as const satisfies Of<'calibration' | 'statistics'>;

export const EVALUATION = {
  /**
   * Texts that the dense and the pruned model are measured on when all is written; their perplexities go into the report.
   * What was written remains when this fails or is aborted. What the result costs on a few held-out windows is measured before
   * that, unless this is `false`. Default true: no texts.
   */
  evaluation: row('--no-evaluation', 'do not measure the quality of the result', {
    kind: either(boolean, record<TextEvaluation>('an object such as { texts: ["test.txt"] }')),
    otherwise: 'a few held-out windows',
    parts: TEXT_EVALUATION,
  }),
} as const satisfies AnyRows;

/** Whether a run resumes where it was cut off. */
export const resume = row('--no-resume', 'start again instead of resuming an interrupted run', {
  kind: boolean,
  default: true,
});

/** Whether a run that was cut off while it healed takes what it has. */
export const stopHealing = row(
  '--stop-healing',
  'take the best weights of an interrupted healing, and train no further',
  {
    kind: boolean,
    default: false,
  },
);

export const STAGES_OPTION = {
  stages: row(undefined, 'your own stages in place of built-in ones', {
    kind: record('an object such as { certify: { name: "certify", run } }'),
    otherwise: "the library's",
  }),
} as const satisfies AnyRows;

export const CONDUCT = {
  resume,
  ...STAGES_OPTION,
} as const satisfies AnyRows & Of<'resume'>;
