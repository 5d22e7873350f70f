import type { WeightGrid } from '../quantisation/block-codes.js';
import { DTYPES, type DtypeName, hasFewLevels } from '../quantisation/dtypes.js';
import { boolean, choice, integer, type Kind, namesOf, text } from './kinds.js';
import {
  type AnyRows,
  type Applies,
  type Checked,
  defaultsOf,
  type OptionsOf,
  type Resolved,
  refusal,
  row,
  showValue,
  suggestValue,
} from './option.js';

export type { DtypeName };

/** Layout of model folders by runtime. */
export type FolderLayout = 'transformers.js' | 'genai';

const BLOCK_SIZES = [16, 32, 64, 128, 256];

const formOf = (name: string) => DTYPES[name as DtypeName]?.linears.kind;

const withDtype: Applies = { to: 'dtype', within: ({ dtypes = [] }) => dtypes.length > 0 };
const withDtypes = (isFit: (name: string) => boolean): Applies => ({
  to: `dtype ${namesOf(DTYPES).filter(isFit).join(', ')}`,
  within: ({ dtypes = [] }) => dtypes.some(isFit),
});
const withBlocks = withDtypes((name) => formOf(name) === 'blocks');
const withZeroPoints = withDtypes((name) => hasFewLevels(DTYPES[name as DtypeName]));

const dtypeName = choice(namesOf(DTYPES));

/** `resolveQuantisation` refuses unknown names, with a suggestion. */
const dtypes: Kind<DtypeName | readonly DtypeName[]> = {
  accepts: (value): value is DtypeName | readonly DtypeName[] =>
    [value].flat().every((name) => typeof name === 'string'),
  expected: `${dtypeName.expected}, or a list of them`,
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
   * A dtype by transformers.js' name, or several. In transformers.js' layout all are in one folder and the first one is
   * the default; genai has one model per folder, so that each of several gets its own folder. Default: the model's.
   */
  dtype: row('--dtype <names>', 'dtypes of the result, such as fp16,q4', {
    kind: dtypes,
    otherwise: 'none: that of the model',
    common: true,
  }),
  /** Default: that of the model's folder, which is genai's if it contains `genai_config.json`. */
  layout: row('--layout <name>', 'the runtime that the folder is for', {
    kind: choice(['transformers.js', 'genai']),
    otherwise: "that of the model's folder",
    applies: withDtype,
  }),
  /**
   * For a quantised model: a folder or `.onnx` file with the same export in float. Its weights are pruned and quantised
   * instead of the dequantised ones. Default: the dequantised weights.
   */
  weightsFrom: row('--weights-from <model>', 'float model that a quantised one was converted from', {
    kind: text('a folder or an .onnx file'),
    otherwise: 'the dequantised codes',
  }),
  /**
   * `calibrated`: rounding with error feedback (GPTQ), block by block, with tokens weighted by the gradient of the
   * divergence. `nearest`: round to nearest, as exporters do. Default `calibrated`.
   */
  rounding: row('--rounding <way>', 'how weights are rounded', {
    kind: choice(['calibrated', 'nearest']),
    default: 'calibrated',
  }),
  /** Weights per scale: a power of two, 16 to 256. Default 32. */
  blockSize: row('--block-size <count>', 'weights that share a scale', {
    kind: blockSize,
    default: 32,
    applies: withBlocks,
  }),
  /** Symmetric quantisation without zero points, which saves 1/8 bit per weight at 4 bits and costs accuracy. Default false. */
  symmetric: row('--symmetric', 'no zero points', { kind: boolean, default: false, applies: withZeroPoints }),
  /**
   * `accuracy_level` of `MatMulNBits`: least precision of activations inside products. 0 lets the runtime choose, 1
   * float32, 2 float16, 4 int8. Default 4 where activations are float32: ONNX Runtime's fast CPU kernels. At other
   * levels kernels for 8 and 2 bits dequantise the matrix for every token. Default 0 where activations are float16.
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

/** Options of dtype and quantisation. */
export interface QuantisationOptions extends OptionsOf<typeof QUANTISATION> {}

/** Options with every default filled in. */
export interface ResolvedQuantisation
  extends Omit<
    Required<Resolved<QuantisationOptions, typeof QUANTISATION>>,
    'dtype' | 'layout' | 'weightsFrom' | 'accuracyLevel'
  > {
  /** Empty: the form of the model. */
  readonly dtypes: readonly DtypeName[];
  readonly layout: FolderLayout | undefined;
  readonly accuracyLevel: number | undefined;
  /** Grids of single weights by name, instead of the dtype's bits and `blockSize`. Default: none. */
  readonly grids?: ReadonlyMap<string, WeightGrid> | undefined;
}

/** Fills in checked options. @throws OptionError for an unknown dtype, with a suggestion, and for a repeated one. */
export function resolveQuantisation(checked: Checked<QuantisationOptions>): ResolvedQuantisation {
  const {
    dtype = [],
    layout,
    rounding,
    blockSize: size,
    symmetric,
    accuracyLevel,
  } = { ...defaultsOf(QUANTISATION), ...checked };
  const names = [dtype].flat() as readonly string[];
  for (const [at, name] of names.entries()) {
    if (!Object.hasOwn(DTYPES, name))
      throw refusal('dtype', `is ${showValue(name)}; expected ${dtypeName.expected}${suggestValue(name, dtypeName)}`);
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

/** Whether calibrated rounding of a dtype reads tokens: at eight bits round-to-nearest is enough. */
function needsCalibration(name: DtypeName): boolean {
  const { linears } = DTYPES[name];
  return linears.kind === 'blocks' && linears.bits < 8;
}

/** Block size that FFN widths must be a multiple of; 1 for dtypes without blocks. */
export const widthMultipleFor = ({ dtypes, blockSize: size }: ResolvedQuantisation): number =>
  dtypes.some((name) => formOf(name) === 'blocks') ? size : 1;
