import type { QuantizeRequest, ShrinkRequest } from '../../src/node.js';

/** One way to make a model smaller; a row of the table for each size that it is measured at. */
export interface Variant {
  readonly name: string;
  /** One dtype for the entire model; its size follows. */
  readonly quantize?: Pick<QuantizeRequest, 'dtype' | 'rounding' | 'certify' | 'blockSize'>;
  /** What `shrink` may do at each size that was asked for. */
  readonly shrink?: Pick<ShrinkRequest, 'allow' | 'dtypes' | 'heal'>;
  /** The vocabulary is trimmed to these first. */
  readonly keepLanguages?: readonly string[];
  /** Command of another tool that creates it; the two folders are appended. */
  readonly command?: string;
  /** Measured with earlier code, and not made any more. */
  readonly isPast?: true;
}

const DTYPES = ['q8', 'q4', 'q2'] as const;
/** If bits may be reduced, and there is one dtype, the entire model gets that dtype. */
const PRUNED = { allow: ['neurons', 'heads', 'bits'], dtypes: ['q4'] } as const;
const NEAREST = { dtype: 'q4', rounding: 'nearest' } as const;

/** Results of `shrink` before it chose block sizes, stored scales in float16 and calibrated tables. */
const PAST = ['bits alone', 'pruned, q4', 'pruned, q4, healed'].map((name) => `${name}, blocks of 32`);

/** Compared variants, in the order of their creation. */
export const VARIANTS: readonly Variant[] = [
  { name: 'dense' },
  { name: 'q8', quantize: { dtype: 'q8' } },
  { name: 'q4, nearest', quantize: NEAREST },
  { name: 'q4', quantize: { dtype: 'q4' } },
  { name: 'q4, blocks of 64', quantize: { dtype: 'q4', blockSize: 64 } },
  // Rounding of activations to int8 changes its logits by more than a certificate allows.
  { name: 'q2', quantize: { dtype: 'q2', certify: false } },
  { name: 'shrink', shrink: { dtypes: DTYPES } },
  { name: 'bits alone', shrink: { allow: ['bits'], dtypes: DTYPES } },
  { name: 'pruned, q4', shrink: PRUNED },
  { name: 'shrink, healed', shrink: { dtypes: DTYPES, heal: true } },
  { name: 'pruned, q4, healed', shrink: { ...PRUNED, heal: true } },
  ...PAST.map((name) => ({ name, isPast: true as const })),
  { name: 'onnxsim 0.8.1, 30 % of FFNs', command: 'python scripts/research/onnxsim-prune.py' },
  { name: 'vocabulary of English, q4, nearest', quantize: NEAREST, keepLanguages: ['en'] },
  { name: 'vocabulary of English and code, q4, nearest', quantize: NEAREST, keepLanguages: ['en', 'code'] },
  {
    name: 'vocabulary of English, German and code, q4, nearest',
    quantize: NEAREST,
    keepLanguages: ['en', 'de', 'code'],
  },
  { name: 'vocabulary of English and code, shrink', shrink: { dtypes: DTYPES }, keepLanguages: ['en', 'code'] },
];
