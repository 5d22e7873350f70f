import type { CodebookName } from './codebooks.js';

/** Form of a model's linear weights. */
export type LinearForm =
  /** Floats, like all other weights. */
  | { readonly kind: 'float' }
  /** Codes of a few bits in blocks: integers (`MatMulNBits`), or with a codebook (`MatMulBnb4`). */
  | { readonly kind: 'blocks'; readonly bits: 2 | 4 | 8; readonly codebook?: CodebookName }
  /** Integers of eight bits; activations are rounded to eight bits at run time (`MatMulInteger`). */
  | { readonly kind: 'dynamic'; readonly type: 'int8' | 'uint8' };

/** A dtype of transformers.js. */
export interface Dtype {
  /** End of the model file's name. */
  readonly suffix: string;
  /** Type of weights that are not quantised, of activations and of the KV cache. */
  readonly floats: 'float32' | 'float16';
  readonly linears: LinearForm;
  /** One line, for pages. */
  readonly description: string;
}

/** Dtypes by name. */
export const DTYPES = {
  fp32: { suffix: '', floats: 'float32', linears: { kind: 'float' }, description: 'single precision' },
  fp16: { suffix: '_fp16', floats: 'float16', linears: { kind: 'float' }, description: 'half precision, KV cache too' },
  q8: {
    suffix: '_quantized',
    floats: 'float32',
    linears: { kind: 'blocks', bits: 8 },
    description: 'weights of 8 bits in blocks, activations in single precision',
  },
  int8: {
    suffix: '_int8',
    floats: 'float32',
    linears: { kind: 'dynamic', type: 'int8' },
    description: 'signed weights of 8 bits, activations rounded to 8 bits dynamically',
  },
  uint8: {
    suffix: '_uint8',
    floats: 'float32',
    linears: { kind: 'dynamic', type: 'uint8' },
    description: 'unsigned weights of 8 bits, activations rounded to 8 bits dynamically',
  },
  q4: {
    suffix: '_q4',
    floats: 'float32',
    linears: { kind: 'blocks', bits: 4 },
    description: 'weights of 4 bits in blocks, activations in single precision',
  },
  q4f16: {
    suffix: '_q4f16',
    floats: 'float16',
    linears: { kind: 'blocks', bits: 4 },
    description: 'weights of 4 bits in blocks, activations and KV cache in half precision',
  },
  bnb4: {
    suffix: '_bnb4',
    floats: 'float32',
    linears: { kind: 'blocks', bits: 4, codebook: 'nf4' },
    description: 'weights of 4 bits in blocks with the levels of bitsandbytes (NF4), activations in single precision',
  },
  q2: {
    suffix: '_q2',
    floats: 'float32',
    linears: { kind: 'blocks', bits: 2 },
    description: 'weights of 2 bits in blocks, activations in single precision',
  },
  q2f16: {
    suffix: '_q2f16',
    floats: 'float16',
    linears: { kind: 'blocks', bits: 2 },
    description: 'weights of 2 bits in blocks, activations and KV cache in half precision',
  },
} as const satisfies Record<string, Dtype>;

export type DtypeName = keyof typeof DTYPES;

/**
 * Whether a dtype has integer codes of at most four bits. They may have zero points, and healing trains their scales: eight bits are symmetric
 * and lose too little, and codebooks have no integer levels.
 */
export const hasFewLevels = ({ linears }: Dtype): boolean =>
  linears.kind === 'blocks' && linears.bits <= 4 && linears.codebook === undefined;
