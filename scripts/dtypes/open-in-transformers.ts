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
  { AutoModelForCausalLM, pipeline, Tensor, TextStreamer }: typeof Transformers,
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
    if (generator !== undefined) await write(generator as never, TextStreamer);
    return { logits: last, tokens };
  } finally {
    await (generator ?? model).dispose();
  }
}

interface Writer {
  (
    prompt: string | readonly ChatMessage[],
    settings: object,
  ): Promise<readonly { readonly generated_text: string | readonly ChatMessage[] }[]>;
  readonly tokenizer: Transformers.PreTrainedTokenizer;
}

interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** Writes with the chat template where there is one, and compares the streamed text with the returned one. */
async function write(generator: Writer, TextStreamer: typeof Transformers.TextStreamer): Promise<void> {
  const { tokenizer } = generator;
  let streamed = '';
  const streamer = new TextStreamer(tokenizer, {
    skip_prompt: true,
    skip_special_tokens: true,
    callback_function: (text) => {
      streamed += text;
    },
  });
  const prompt = tokenizer.chat_template ? [{ role: 'user', content: 'the' }] : 'the';
  const settings = { max_new_tokens: NEW_TOKENS, do_sample: false, return_full_text: false, streamer };
  const [answer] = await generator(prompt, settings);
  const text = answer?.generated_text;
  const returned = typeof text === 'string' ? text : text?.at(-1)?.content;
  if (returned === undefined) throw new Error('transformers.js returns no text');
  if (returned.trim() !== streamed.trim())
    throw new Error(`transformers.js streams ${JSON.stringify(streamed)} and returns ${JSON.stringify(returned)}`);
}
