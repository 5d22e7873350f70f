import type { ModelLayout, PrunableModule } from '../architecture/layout.js';
import { parseModelName } from '../onnx/model-name.js';
import { isRecord } from '../parse-json.js';
import type { ModuleCut } from './apply-change.js';
import { findTextConfig } from './text-config.js';

type Json = Readonly<Record<string, unknown>>;

/** Widths of one block after pruning; absent where a block has no such module. */
export interface BlockWidths {
  readonly block: number;
  readonly neuronCount?: number;
  readonly headCount?: number;
  readonly kvHeadCount?: number;
  readonly headSize?: number;
  /** Of linear attention. */
  readonly linearValueHeadCount?: number;
  readonly linearKeyHeadCount?: number;
  /** Of a mixture. */
  readonly expertCount?: number;
  /** Neurons of each of its experts; absent where they cannot be removed. */
  readonly expertNeuronCount?: number;
}

/** Units that remain of one module. */
type CutUnits = Pick<ModuleCut, 'keep' | 'neurons'>;

/** Widths of each block's modules after removal. @param remaining By module index. */
export function blockWidths(layout: ModelLayout, remaining: ReadonlyMap<number, CutUnits>): BlockWidths[] {
  return Array.from({ length: layout.blockCount }, (_, block) => {
    const ffn = layout.modules.find((module) => module.block === block && module.kind === 'ffn');
    const attention = layout.modules.find((module) => module.block === block && module.kind === 'attention');
    const experts = layout.modules.find((module) => module.block === block && module.kind === 'experts');
    return {
      block,
      ...(ffn && { neuronCount: remaining.get(ffn.index)?.keep.length ?? ffn.unitCount }),
      ...(attention && headCounts(attention, remaining.get(attention.index)?.keep)),
      ...(experts && expertCounts(experts, remaining.get(experts.index))),
    };
  });
}

/** @param remaining Absent: all. */
function expertCounts(
  { unitCount, neurons }: PrunableModule,
  remaining: CutUnits | undefined,
): Omit<BlockWidths, 'block'> {
  const expertCount = remaining?.keep.length ?? unitCount;
  if (neurons === undefined) return { expertCount };
  const width = remaining?.neurons === undefined ? neurons.unitCount : remaining.neurons.length / expertCount;
  return { expertCount, expertNeuronCount: width * neurons.unitSize };
}

/** @param remaining Absent: all. */
function headCounts(attention: PrunableModule, remaining: Int32Array | undefined): Omit<BlockWidths, 'block'> {
  const { unitCount, headsPerUnit = 1, groupOfUnit, kvHeadCount, unitSize, attentionType } = attention;
  const heads = remaining ?? Int32Array.from({ length: unitCount }, (_, unit) => unit);
  const headCount = heads.length * headsPerUnit;
  const sharedCount = groupOfUnit
    ? new Set(heads.map((unit) => groupOfUnit[unit]!)).size
    : Math.min(kvHeadCount ?? heads.length, heads.length);
  if (attentionType === 'linear') return { linearValueHeadCount: headCount, linearKeyHeadCount: sharedCount };
  return {
    headCount,
    ...(attentionType !== 'shared' && { kvHeadCount: sharedCount }),
    headSize: unitSize / headsPerUnit,
  };
}

/** Names that model families give to one width, in config.json. */
const CONFIG_KEYS = {
  neuronCount: [
    ...['intermediate_size', 'ffn_dim', 'n_inner', 'ffn_hidden_size', 'd_inner', 'ffn_intermediate_size'],
    ...['shared_expert_intermediate_size', 'shared_intermediate_size'],
  ],
  headCount: ['num_attention_heads', 'n_head', 'num_heads', 'n_heads', 'decoder_attention_heads'],
  kvHeadCount: ['num_key_value_heads', 'num_kv_heads', 'n_head_kv'],
  headSize: ['head_dim', 'v_head_dim'],
  linearValueHeadCount: ['linear_num_value_heads'],
  linearKeyHeadCount: ['linear_num_key_heads'],
  expertCount: ['num_experts', 'num_local_experts', 'n_routed_experts', 'moe_num_experts'],
  expertNeuronCount: ['moe_intermediate_size'],
} as const satisfies Partial<Record<keyof BlockWidths, readonly string[]>>;

type Width = keyof typeof CONFIG_KEYS;

/** How the pruned model is stored, for the part of config.json that transformers.js reads. */
export interface StoredAs {
  /** Model file, such as `onnx/model_fp16.onnx`. */
  readonly modelFile: string;
  /** External data files next to it. */
  readonly externalFileCount: number;
}

/** Widths of all blocks. */
export interface ChangedWidths {
  readonly before: readonly BlockWidths[];
  readonly after: readonly BlockWidths[];
}

/**
 * Updates config.json to the widths of the pruned graph. One number stands for all blocks that had it: where they differ now, it
 * is the largest, and `fang_prune` lists all; a list by block is updated by block. `head_dim` is always written, since hidden size
 * / heads no longer gives it. Widths that no block has are unchanged. A part for the decoder (`text_config`) is updated too.
 */
export function updateConfig(config: Json, widths: ChangedWidths, storedAs: StoredAs): Json {
  const text = findTextConfig(config);
  const updated: Record<string, unknown> = {
    ...config,
    ...updateWidths(config, widths, text ? presentKeys : keysFor),
    ...(text && { [text.key]: { ...text.part, ...updateWidths(text.part, widths, keysFor) } }),
  };
  const differ = (['neuronCount', 'headCount', 'expertCount', 'expertNeuronCount'] as const).some((field) =>
    widths.after.some((width) => width[field] !== widths.after[0]?.[field]),
  );
  if (differ) updated.fang_prune = { blocks: widths.after };
  const js = config['transformers.js_config'];
  if (isRecord(js)) updated['transformers.js_config'] = updateTransformersJs(js, storedAs);
  return updated;
}

type KeysFor = (field: Width, config: Json) => readonly string[];

function updateWidths(config: Json, { before, after }: ChangedWidths, keysOf: KeysFor): Json {
  const updated: Record<string, unknown> = {};
  for (const field of Object.keys(CONFIG_KEYS) as Width[]) {
    const keys = keysOf(field, config);
    const configured = configuredWidths(
      keys.map((key) => config[key]),
      before.map((width) => width[field]),
    );
    for (const key of keys) {
      const value = config[key];
      const isForAll = typeof value !== 'number' || (keys.length === 1 && !configured.includes(value));
      const largest = largestOf(isForAll ? after : after.filter((_, at) => configured[at] === value), field);
      if (largest === undefined) continue;
      // Head sizes do not change; a config with several has other keys for them (Gemma 4).
      if (field === 'headSize' && typeof value === 'number') continue;
      updated[key] = Array.isArray(value) ? listByBlock(value, after, field) : largest;
    }
  }
  return updated;
}

/**
 * The value in the config for each block's width: the smallest that some block has and that is not below the width. FFNs and
 * shared experts have keys of their own, some families double the width of a few blocks, and earlier pruning left the largest.
 */
function configuredWidths(values: readonly unknown[], widths: readonly (number | undefined)[]): readonly unknown[] {
  const used = values.filter((value): value is number => typeof value === 'number' && widths.includes(value));
  used.sort((a, b) => a - b);
  return widths.map((width) => used.find((value) => value >= (width ?? Number.POSITIVE_INFINITY)));
}

function presentKeys(field: Width, config: Json): readonly string[] {
  const present = CONFIG_KEYS[field].filter((key) => key in config);
  if (field !== 'expertNeuronCount' || present.length > 0) return present;
  // Families without dense FFNs use the FFN's key for the experts' width.
  return presentKeys('expertCount', config).length > 0 ? ['intermediate_size'].filter((key) => key in config) : [];
}

/** The keys of a width that a config has, or the one that overrides the default. */
function keysFor(field: Width, config: Json): readonly string[] {
  const present = presentKeys(field, config);
  if (present.length > 0) return present;
  if (field === 'headSize') return ['head_dim'];
  // GPT-2's family omits it where it is four times the hidden size.
  return field === 'neuronCount' && 'n_embd' in config ? ['n_inner'] : [];
}

function listByBlock(list: readonly unknown[], widths: readonly BlockWidths[], field: Width): unknown[] {
  return list.map((value, block) => widths.find((width) => width.block === block)?.[field] ?? value);
}

const DTYPE_OF_SUFFIX: Readonly<Record<string, string>> = { '': 'fp32', _fp16: 'fp16' };

/** The new folder has only the pruned variant, so it becomes the default; entries of other models are unchanged. */
function updateTransformersJs(js: Json, { modelFile, externalFileCount }: StoredAs): Json {
  const file = modelFile.slice(modelFile.lastIndexOf('/') + 1);
  const { stem = '', variant = '' } = parseModelName(file) ?? {};
  const dtype = stem.includes('model') ? DTYPE_OF_SUFFIX[variant] : undefined;
  return {
    ...js,
    ...(js.use_external_data_format !== undefined && {
      use_external_data_format: updateEntry(js.use_external_data_format, {
        stem,
        name: file,
        value: externalFileCount,
      }),
    }),
    ...(js.dtype !== undefined &&
      dtype !== undefined && { dtype: updateEntry(js.dtype, { stem, name: stem, value: dtype }) }),
  };
}

interface ModelEntry {
  readonly stem: string;
  readonly name: string;
  readonly value: string | number;
}

/** Updates a model's entry: a single value, or an object by file or stem, from which the other variants are removed. */
function updateEntry(entry: unknown, { stem, name, value }: ModelEntry): unknown {
  if (!isRecord(entry)) return value;
  const others = Object.entries(entry).filter(([key]) => key !== stem && parseModelName(key)?.stem !== stem);
  return { ...Object.fromEntries(others), [name]: value };
}

/** Names of the decoder's widths in genai_config.json. */
const GENAI_KEYS = {
  headSize: 'head_size',
  headCount: 'num_attention_heads',
  kvHeadCount: 'num_key_value_heads',
} as const satisfies Partial<Record<Width, string>>;

/** Updates the head counts in genai_config.json. */
export function updateGenaiConfig(config: Json, widths: readonly BlockWidths[]): Json {
  const { model } = config;
  if (!isRecord(model) || !isRecord(model.decoder)) return config;
  const decoder: Record<string, unknown> = { ...model.decoder };
  for (const [field, key] of Object.entries(GENAI_KEYS) as [keyof typeof GENAI_KEYS, string][]) {
    const largest = largestOf(widths, field);
    if (largest !== undefined && !(field === 'headSize' && typeof decoder[key] === 'number')) decoder[key] = largest;
  }
  return { ...config, model: { ...model, decoder } };
}

function largestOf(widths: readonly BlockWidths[], field: Width): number | undefined {
  const values = widths.map((width) => width[field]).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : Math.max(...values);
}
