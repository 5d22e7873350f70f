import type * as Transformers from '@huggingface/transformers';

/** A model folder under `env.localModelPath`, and how it is opened there. */
export interface OpenRequest {
  readonly name: string;
  /** Whether it resumes from a cache; without one transformers.js cannot write, for it hands the last token alone. */
  readonly hasCache: boolean;
  /** Whether `pipeline` opens it, tokenizer and all. */
  readonly hasTokenizer: boolean;
  readonly prompt: readonly number[];
  /** Empty: default settings. */
  readonly options: { readonly device?: 'webgpu'; readonly dtype?: string };
}

/** Output of a model. */
export interface Opened {
  /** Of the token after the prompt. */
  readonly logits: readonly number[];
  /** Those that it wrote behind the prompt. */
  readonly tokens: readonly number[];
}

const NEW_TOKENS = 6;

/** Opens a folder in transformers.js, in Node.js or on a page, reads a prompt, and resumes from it. */
export async function openInTransformers(
  { AutoModelForCausalLM, pipeline, Tensor }: typeof Transformers,
  { name, hasCache, hasTokenizer, prompt, options }: OpenRequest,
): Promise<Opened> {
  const isWriter = hasCache && hasTokenizer;
  const generator = isWriter ? await pipeline('text-generation', name, options as never) : undefined;
  const model = generator?.model ?? (await AutoModelForCausalLM.from_pretrained(name, options as never));
  try {
    const dims = [1, prompt.length];
    const inputs = new Tensor('int64', BigInt64Array.from(prompt, BigInt), dims);
    const attention_mask = new Tensor('int64', new BigInt64Array(prompt.length).fill(1n), dims);
    const { logits } = (await model({ input_ids: inputs, attention_mask })) as { readonly logits: Transformers.Tensor };
    const last = Array.from((logits.data as Float32Array).slice(-logits.dims.at(-1)!), Number);
    if (!hasCache) return { logits: last, tokens: [] };
    const call = { inputs, attention_mask, max_new_tokens: NEW_TOKENS, do_sample: false };
    const found = (await model.generate(call as never)) as Transformers.Tensor;
    const tokens = Array.from(found.data as BigInt64Array, Number).slice(prompt.length);
    if (tokens.length === 0) throw new Error('transformers.js writes no token');
    if (generator !== undefined) await write(generator as never);
    return { logits: last, tokens };
  } finally {
    await (generator ?? model).dispose();
  }
}

type Writer = (prompt: string, settings: object) => Promise<readonly { readonly generated_text: unknown }[]>;

async function write(generator: Writer): Promise<void> {
  const [said] = await generator('the', { max_new_tokens: NEW_TOKENS, do_sample: false });
  if (typeof said?.generated_text !== 'string') throw new Error('transformers.js gives no text');
}
