import type { ModelLayout } from '../architecture/layout.js';

type Json = Readonly<Record<string, unknown>>;

/** Widths of one block after pruning; absent where a block has no such module. */
export interface BlockWidths {
  readonly block: number;
  readonly neuronCount?: number;
  readonly headCount?: number;
  readonly kvHeadCount?: number;
  readonly headSize?: number;
}

/** What each block's modules are like when some units have gone. @param keptUnits Units that stay, by module index. */
export function blockWidths(layout: ModelLayout, keptUnits: ReadonlyMap<number, Int32Array>): BlockWidths[] {
  return Array.from({ length: layout.blockCount }, (_, block) => {
    const ffn = layout.modules.find((module) => module.block === block && module.kind === 'ffn');
    const attention = layout.modules.find((module) => module.block === block && module.kind === 'attention');
    const heads =
      attention &&
      (keptUnits.get(attention.index) ?? Int32Array.from({ length: attention.unitCount }, (_, unit) => unit));
    return {
      block,
      ...(ffn && { neuronCount: keptUnits.get(ffn.index)?.length ?? ffn.unitCount }),
      ...(attention &&
        heads && {
          headCount: heads.length,
          kvHeadCount: attention.groupOfUnit
            ? new Set(heads.map((unit) => attention.groupOfUnit![unit]!)).size
            : heads.length,
          headSize: attention.unitSize,
        }),
    };
  });
}

/** Names that model families give to one width, in config.json. */
const CONFIG_KEYS = {
  neuronCount: ['intermediate_size', 'ffn_dim', 'n_inner', 'ffn_hidden_size', 'd_inner', 'ffn_intermediate_size'],
  headCount: ['num_attention_heads', 'n_head', 'num_heads', 'n_heads', 'decoder_attention_heads'],
  kvHeadCount: ['num_key_value_heads', 'num_kv_heads', 'n_head_kv'],
  headSize: ['head_dim'],
} as const;

/**
 * Makes config.json say what the pruned graph is like. One number stands for all blocks, so where blocks differ it is the
 * largest and `fang_prune` lists them all. `head_dim` is always written: hidden size / heads no longer gives it.
 *
 * @param fileCount External data files beside the model, for transformers.js.
 */
export function mendConfig(config: Json, widths: readonly BlockWidths[], fileCount: number): Json {
  const mended: Record<string, unknown> = { ...config };
  for (const [field, keys] of Object.entries(CONFIG_KEYS) as [keyof typeof CONFIG_KEYS, readonly string[]][]) {
    const values = widths.map((width) => width[field]).filter((value) => value !== undefined);
    if (values.length === 0) continue;
    const present = keys.filter((key) => key in config);
    const always = field === 'headSize' ? keys : [];
    for (const key of present.length > 0 ? present : always) mended[key] = Math.max(...values);
  }
  const differ = widths.some(
    (width) => width.neuronCount !== widths[0]?.neuronCount || width.headCount !== widths[0]?.headCount,
  );
  if (differ) mended.fang_prune = { blocks: widths };
  const js = config['transformers.js_config'];
  if (isRecord(js) && js.use_external_data_format !== undefined) {
    mended['transformers.js_config'] = { ...js, use_external_data_format: fileCount };
  }
  return mended;
}

/** The same for genai_config.json, whose decoder entry names the head counts. */
export function mendGenaiConfig(config: Json, widths: readonly BlockWidths[]): Json {
  const { model } = config;
  if (!isRecord(model) || !isRecord(model.decoder)) return config;
  const largest = (field: 'headCount' | 'kvHeadCount' | 'headSize') =>
    Math.max(...widths.map((width) => width[field] ?? 0));
  const decoder = {
    ...model.decoder,
    head_size: largest('headSize'),
    num_attention_heads: largest('headCount'),
    num_key_value_heads: largest('kvHeadCount'),
  };
  return { ...config, model: { ...model, decoder } };
}

const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
