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
  /** Tokens on which pruning measures the model. Default: a bundled text, for `auto` together with text that the model generates. */
  readonly calibration?: CalibrationOptions | undefined;
  /**
   * Statistics of this model that `observe` wrote: a folder with `statistics.json`, or the path of such a file. The
   * model is then not run on calibration text; `calibration` is that of the statistics, and `grouping`, `weighting` and
   * `seed` must be equal. `calibration.windowCount` windows of the statistics are read again for input repair and the
   * repair of experts. Default: the model is measured.
   */
  readonly statistics?: string | undefined;
  /**
   * Resume from the checkpoints of the same run in `<out>.partial`: the same model, options and version. False starts
   * again. Default true.
   */
  readonly resume?: boolean | undefined;
  /**
   * If the same run was interrupted while healing, use the best weights of its checkpoint, without further training.
   * Default false.
   */
  readonly stopHealing?: boolean | undefined;
}

type Of<Names extends keyof FolderOptions> = Rows<Pick<FolderOptions, Names>>;

export const force = { kind: boolean, default: false, flag: '--force', common: true };

export const RESULT = {
  /** Folder to create; may be left out for a dry run. */
  out: row('-o, --out <folder>', 'where the pruned model goes', {
    kind: text('a path'),
    otherwise: 'none for a dry run',
    common: true,
  }),
  /** Replace `out` if it is empty or contains only files of an earlier run. Default false. */
  force: { ...force, help: 'replace a folder that an earlier run wrote' },
  /** Make all decisions and the report, but write no model; takes as long as a run. `plan` estimates sizes and time quickly. Default false. */
  dryRun: row(
    '--dry-run',
    'check everything, estimate sizes and time; with --report, --recipe or --statistics also choose the removed units',
    {
      kind: boolean,
      default: false,
      common: true,
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
  /** Quote calibration text in the report, as examples of contexts. Default true. */
  quoteText: row('--no-quotes', 'quote no calibration text in the report', { kind: boolean, default: true }),
  /** Write absolute paths of this machine into the report; `push` removes them. Default false: only names. */
  reportPaths: row(undefined, 'write absolute paths into the report instead of names', {
    kind: boolean,
    default: false,
  }),
  /**
   * Open the written model and compare its logits with those of the masked original; if they differ, the run fails and
   * writes nothing. Default true.
   */
  certify: row('--no-certify', 'do not compare the written model with the masked original', {
    kind: boolean,
    default: true,
  }),
  /**
   * Writes the removed units and changed weights, for `applyRecipe`: a folder that gets `recipe.json` and
   * `recipe.safetensors`, or the path of such a `.json` file. An existing one is replaced only with `force`. Default:
   * none.
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
    common: true,
  }),
} as const satisfies Of<'calibration' | 'statistics'>;

export const EVALUATION = {
  /**
   * Texts for perplexities of the dense and the pruned model in the report, measured after writing; written files
   * remain if this fails or is aborted. The quality on a few held-out windows is measured before, unless this is
   * `false`. Default true: no texts.
   */
  evaluation: row('--no-evaluation', 'do not measure the quality of the result', {
    kind: either(boolean, record<TextEvaluation>('an object such as { texts: ["test.txt"] }')),
    otherwise: 'a few held-out windows',
    parts: TEXT_EVALUATION,
  }),
} as const satisfies AnyRows;

/** Whether an interrupted run is resumed. */
const resume = row('--no-resume', 'start again instead of resuming an interrupted run', {
  kind: boolean,
  default: true,
});

/** Whether an interrupted healing is finished with its best weights. */
export const stopHealing = row(
  '--stop-healing',
  'write the best weights of an interrupted healing, and train no further',
  {
    kind: boolean,
    default: false,
  },
);

export const STAGES_OPTION = {
  stages: row(undefined, 'your own stages instead of built-in ones', {
    kind: record('an object such as { certify: { name: "certify", run } }'),
    otherwise: "the library's",
  }),
} as const satisfies AnyRows;

export const EXECUTION = {
  resume,
  ...STAGES_OPTION,
} as const satisfies AnyRows & Of<'resume'>;
