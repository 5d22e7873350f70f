import { DTYPES, type DtypeName } from '../quantisation/dtypes.js';
import { boolean, choice, integer, type Kind, namesOf, text } from './kinds.js';
import { nearestName } from './nearest-name.js';
import { type AnyRows, type Applies, type OptionsOf, type Resolved, refusal, row, showValue } from './option.js';

export type { DtypeName };

/** Folders as runtimes expect them. */
export type FolderLayout = 'transformers.js' | 'genai';

const BLOCK_SIZES = [16, 32, 64, 128, 256];

const formOf = (name: string) => DTYPES[name as DtypeName]?.maps.kind;

const withDtype: Applies = { to: 'dtype', within: ({ dtypes = [] }) => dtypes.length > 0 };
const withBlocks: Applies = {
  to: `dtype ${namesOf(DTYPES)
    .filter((name) => formOf(name) === 'blocks')
    .join(', ')}`,
  within: ({ dtypes = [] }) => dtypes.some((name) => formOf(name) === 'blocks'),
};

/** Names are looked up when options are resolved, which knows the nearest. */
const dtypes: Kind<DtypeName | readonly DtypeName[]> = {
  accepts: (value): value is DtypeName | readonly DtypeName[] =>
    [value].flat().every((name) => typeof name === 'string'),
  expected: `one of ${namesOf(DTYPES).join(', ')}, or a list of them`,
  typed: `one or several of ${namesOf(DTYPES).join(', ')}, such as fp16,q4`,
  reads: 'names',
};

const blockSize: Kind<number> = {
  accepts: (value): value is number => BLOCK_SIZES.includes(value as number),
  expected: `one of ${BLOCK_SIZES.join(', ')}`,
  reads: 'count',
};

export const QUANTISATION = {
  /**
   * A dtype by transformers.js' name, or several. In transformers.js' layout they lie next to each other and the first one is
   * opened by default; genai has one model a folder, so that several go to folders of their own. Default: as the model is.
   */
  dtype: row('--dtype <names>', 'dtypes to write it in, such as fp16,q4', {
    kind: dtypes,
    otherwise: 'none: as the model is',
    everyday: true,
  }),
  /** Default: as the model's own folder, which is genai's where it holds `genai_config.json`. */
  layout: row('--layout <name>', 'the runtime that the folder is for', {
    kind: choice(['transformers.js', 'genai']),
    otherwise: "as the model's folder",
    applies: withDtype,
  }),
  /**
   * Of a quantised model: a folder, or an `.onnx` file, that holds the same export in floats. Its weights are pruned and quantised in
   * place of what the codes stand for. Default: the codes' own.
   */
  weightsFrom: row('--weights-from <model>', 'float model that a quantised one was made of', {
    kind: text('a folder or an .onnx file'),
    otherwise: "the codes' own",
  }),
  /**
   * `calibrated`: each map's rounding makes up for its own errors where the divergence feels them, block by block. `nearest`:
   * every weight goes to the nearest level by itself, as exporters do it. Default `calibrated`.
   */
  rounding: row('--rounding <way>', 'how weights are rounded', {
    kind: choice(['calibrated', 'nearest']),
    default: 'calibrated',
  }),
  /** Weights that share a scale: a power of two, 16 to 256. Default 32. */
  blockSize: row('--block-size <count>', 'weights that share a scale', {
    kind: blockSize,
    default: 32,
    applies: withBlocks,
  }),
  /** Blocks have no zero points of their own, which saves an eighth of a bit a weight at 4 bits and costs accuracy. Default false. */
  symmetric: row('--symmetric', 'no zero points', { kind: boolean, default: false, applies: withBlocks }),
  /**
   * Precision to which activations may be rounded inside products of quantised weights: 0 lets the runtime choose, 1 float32, 2 float16,
   * 4 int8. Default 4 where activations are float32: ONNX Runtime's fast kernels for processors. At other levels those for 8 and 2 bits unpack
   * the matrix for every token. Default 0 where activations are float16.
   */
  accuracyLevel: row(
    '--accuracy-level <level>',
    'rounding of activations in products: 0 any, 1 float32, 2 float16, 4 int8',
    {
      kind: {
        ...integer(0),
        accepts: (value): value is number => [0, 1, 2, 3, 4].includes(value as number),
        expected: 'a level from 0 to 4',
      },
      otherwise: '4, for float16 0',
      applies: withBlocks,
    },
  ),
} as const satisfies AnyRows;

/** Options for the weights of a result. */
export interface QuantisationOptions extends OptionsOf<typeof QUANTISATION> {}

/** Options with every default filled in. */
export interface ResolvedQuantisation
  extends Omit<
    Required<Resolved<QuantisationOptions, typeof QUANTISATION>>,
    'dtype' | 'layout' | 'weightsFrom' | 'accuracyLevel'
  > {
  /** None: the result is as the model is. */
  readonly dtypes: readonly DtypeName[];
  readonly layout: FolderLayout | undefined;
  readonly accuracyLevel: number | undefined;
  /** Bits of single weights by name, in place of the dtype's. Default: none. */
  readonly bits?: ReadonlyMap<string, 2 | 4 | 8> | undefined;
}

/** @throws OptionError for a dtype that there is none of, naming the nearest, and for one that is asked for twice. */
export function resolveQuantisation(given: QuantisationOptions): ResolvedQuantisation {
  const { dtype = [], layout, rounding = 'calibrated', blockSize: size = 32, symmetric = false, accuracyLevel } = given;
  const names = [dtype].flat() as readonly string[];
  for (const [at, name] of names.entries()) {
    if (!Object.hasOwn(DTYPES, name)) {
      const near = nearestName(name, namesOf(DTYPES));
      const meant = near === undefined ? '' : ` (did you mean "${near}"?)`;
      throw refusal('dtype', `is ${showValue(name)}; expected one of ${namesOf(DTYPES).join(', ')}${meant}`);
    }
    if (names.indexOf(name) < at) throw refusal('dtype', `names ${name} twice; name it once`);
  }
  return {
    dtypes: names as readonly DtypeName[],
    layout,
    rounding,
    blockSize: size,
    symmetric,
    accuracyLevel,
  };
}

/** Whether a rounding reads calibration tokens. */
export const learnsRounding = ({ dtypes, rounding }: ResolvedQuantisation): boolean =>
  rounding === 'calibrated' && dtypes.some((name) => needsCalibration(name));

/** Eight bits are as good as none: only coarser blocks learn. */
function needsCalibration(name: DtypeName): boolean {
  const { maps } = DTYPES[name];
  return maps.kind === 'blocks' && maps.bits < 8;
}

/** The multiple that FFN widths are kept at for the blocks' sake; 1 where no dtype has blocks. */
export const widthMultipleFor = ({ dtypes, blockSize: size }: ResolvedQuantisation): number =>
  dtypes.some((name) => formOf(name) === 'blocks') ? size : 1;
