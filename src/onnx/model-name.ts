/** Parts of a model's file name: `decoder_model_merged_q4.onnx` is the variant `_q4` of `decoder_model_merged`. */
export interface ModelName {
  /** Name of the model. */
  readonly stem: string;
  /** Suffix of the weights' form, with its separator; `''` for single precision. */
  readonly variant: string;
}

/** ONNX files and their external data, as exporters name them. */
const ONNX_FILE = /^(.+)\.onnx(?:[._]data(?:_\d+)?)?$/i;

/** Suffixes of a model's variants. */
const VARIANT = /(?:[_-](?:fp16|fp32|bf16|u?int[48]|quantized|q\d(?:f16)?|bnb4|o[1-4]|optimized))+$/i;

/** @param file Name without folder. @returns undefined for what is neither an ONNX file nor external data of one. */
export function parseModelName(file: string): ModelName | undefined {
  const name = ONNX_FILE.exec(file)?.[1];
  if (name === undefined) return undefined;
  const variant = VARIANT.exec(name)?.[0] ?? '';
  return { stem: name.slice(0, name.length - variant.length), variant };
}
