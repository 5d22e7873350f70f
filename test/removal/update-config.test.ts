import type { ModelLayout, PrunableModule } from '../../src/architecture/layout.js';
import { type BlockWidths, blockWidths, updateConfig, updateGenaiConfig } from '../../src/removal/update-config.js';

const widths: readonly BlockWidths[] = [
  { block: 0, neuronCount: 300, headCount: 6, kvHeadCount: 3, headSize: 24 },
  { block: 1, neuronCount: 300, headCount: 6, kvHeadCount: 3, headSize: 24 },
];
const changed = (after: readonly BlockWidths[], before = after) => ({ before, after });
const inline = { modelFile: 'onnx/model.onnx', externalFileCount: 0 };

describe('blockWidths', () => {
  const module = (index: number, part: Partial<PrunableModule>) => ({ index, block: 0, ...part }) as PrunableModule;
  const groupOfUnit = Int32Array.of(0, 0, 1, 1);
  const modules = [
    module(0, { kind: 'attention', unitCount: 4, unitSize: 8, groupOfUnit, groupCount: 2 }),
    module(1, { kind: 'ffn', unitCount: 32, unitSize: 1 }),
    module(2, { kind: 'attention', block: 1, unitCount: 4, unitSize: 8 }),
    module(4, { kind: 'experts', block: 1, unitCount: 8, unitSize: 1 }),
    module(5, {
      kind: 'experts',
      block: 2,
      unitCount: 4,
      unitSize: 1,
      neurons: { unitCount: 6, unitSize: 2, parametersPerUnit: 9 },
    }),
    module(3, {
      kind: 'attention',
      attentionType: 'linear',
      block: 3,
      unitCount: 4,
      unitSize: 8,
      groupOfUnit,
      groupCount: 2,
    }),
  ];
  const layout = { blockCount: 4, modules } as unknown as ModelLayout;

  it('counts remaining units, KV heads by groups, and omits modules that a block lacks', () => {
    const cuts = new Map([
      [0, { keep: Int32Array.of(2, 3) }],
      [1, { keep: Int32Array.from({ length: 20 }, (_, unit) => unit) }],
      [3, { keep: Int32Array.of(0, 1) }],
      [5, { keep: Int32Array.of(0, 2), neurons: Int32Array.of(0, 1, 5, 2, 3, 4) }],
    ]);
    expect(blockWidths(layout, cuts)).toEqual([
      { block: 0, neuronCount: 20, headCount: 2, kvHeadCount: 1, headSize: 8 },
      { block: 1, headCount: 4, kvHeadCount: 4, headSize: 8, expertCount: 8 },
      { block: 2, expertCount: 2, expertNeuronCount: 6 },
      { block: 3, linearValueHeadCount: 2, linearKeyHeadCount: 1 },
    ]);
  });

  it('counts heads of units with several, KV heads that all heads share, and none of shared keys and values', () => {
    const attention = { kind: 'attention', unitCount: 4, unitSize: 16, headsPerUnit: 2 } as const;
    const shared = { ...attention, attentionType: 'shared' } as const;
    const modules = [module(0, { ...attention, kvHeadCount: 8 }), module(1, { ...shared, block: 1 })];
    const layout = { blockCount: 2, modules } as unknown as ModelLayout;
    const cuts = new Map([0, 1].map((index) => [index, { keep: Int32Array.of(1, 2, 3) }]));
    expect(blockWidths(layout, cuts)).toEqual([
      { block: 0, headCount: 6, kvHeadCount: 3, headSize: 8 },
      { block: 1, headCount: 6, headSize: 8 },
    ]);
  });
});

describe('updateConfig', () => {
  it('writes numbers of experts under the names of the config, and lists blocks that differ', () => {
    const experts = [
      { block: 0, neuronCount: 300 },
      ...[6, 8].map((expertCount, at) => ({ block: at + 1, expertCount })),
    ];
    const config = { num_experts: 16, n_routed_experts: 16, num_experts_per_tok: 2, first_k_dense_replace: 1 };
    const dense = experts.map((block) => ({ ...block, ...('expertCount' in block && { expertCount: 16 }) }));
    expect(updateConfig(config, changed(experts, dense), inline)).toEqual({
      num_experts: 8,
      n_routed_experts: 8,
      num_experts_per_tok: 2,
      first_k_dense_replace: 1,
      fang_prune: { blocks: experts },
    });
    expect(updateConfig({ hidden_size: 4 }, changed(experts), inline)).not.toHaveProperty('num_experts');
  });

  it('writes the width of experts under its own name, else under that of FFNs', () => {
    const mixtures = [0, 1].map((block) => ({ block, expertCount: 8, expertNeuronCount: 40 }));
    const own = { num_experts: 8, intermediate_size: 64, moe_intermediate_size: 48 };
    expect(updateConfig(own, changed(mixtures), inline)).toEqual({ ...own, moe_intermediate_size: 40 });
    const withFfn = mixtures.map((widths) => ({ ...widths, neuronCount: 56 }));
    const shared = { num_local_experts: 8, intermediate_size: 48, shared_intermediate_size: 64 };
    const dense = mixtures.map((block) => ({ ...block, expertNeuronCount: 48, neuronCount: 64 }));
    expect(updateConfig(shared, changed(withFfn, dense), inline)).toEqual({
      num_local_experts: 8,
      intermediate_size: 40,
      shared_intermediate_size: 56,
    });
  });

  it('writes widths of FFNs and shared experts separately, and keeps those that no block has', () => {
    const dense = [512, 64, 64].map((neuronCount, block) => ({ block, neuronCount }));
    const pruned = [40, 50, 30].map((neuronCount, block) => ({ block, neuronCount }));
    const config = { intermediate_size: 512, shared_expert_intermediate_size: 64 };
    expect(updateConfig(config, changed(pruned, dense), inline)).toMatchObject({
      intermediate_size: 40,
      shared_expert_intermediate_size: 50,
    });
    const unused = { ...config, intermediate_size: 5632 };
    expect(updateConfig(unused, changed(pruned, dense), inline)).toMatchObject({
      intermediate_size: 5632,
      shared_expert_intermediate_size: 50,
    });
    expect(updateConfig({ intermediate_size: 64 }, changed(pruned, dense), inline).intermediate_size).toBe(50);
    // Widths that differ since an earlier pruning.
    expect(updateConfig({ intermediate_size: 512 }, changed(pruned, dense), inline).intermediate_size).toBe(50);
  });

  it('writes no head size if queries and values differ (MLA)', () => {
    const config = { num_attention_heads: 8, qk_rope_head_dim: 4, v_head_dim: 24 };
    expect(updateConfig(config, changed(widths), inline)).toEqual({ ...config, num_attention_heads: 6 });
  });

  it('writes heads of linear attention apart from those of full attention', () => {
    const hybrid = [...widths, { block: 2, neuronCount: 300, linearValueHeadCount: 12, linearKeyHeadCount: 6 }];
    const config = {
      num_attention_heads: 8,
      linear_num_value_heads: 32,
      linear_num_key_heads: 16,
      linear_key_head_dim: 128,
    };
    expect(updateConfig({ text_config: config }, changed(hybrid), inline)).toMatchObject({
      text_config: {
        num_attention_heads: 6,
        linear_num_value_heads: 12,
        linear_num_key_heads: 6,
        linear_key_head_dim: 128,
      },
    });
  });

  it.each([
    [
      'Llama',
      {
        hidden_size: 192,
        intermediate_size: 512,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 24,
        rope_theta: 1e4,
      },
      {
        hidden_size: 192,
        intermediate_size: 300,
        num_attention_heads: 6,
        num_key_value_heads: 3,
        head_dim: 24,
        rope_theta: 1e4,
      },
    ],
    ['GPT-2', { n_embd: 64, n_head: 8 }, { n_embd: 64, n_head: 6, head_dim: 24, n_inner: 300 }],
    [
      'OPT',
      { ffn_dim: 512, num_attention_heads: 8, hidden_size: 192 },
      { ffn_dim: 300, num_attention_heads: 6, hidden_size: 192, head_dim: 24 },
    ],
    [
      'a family that lists widths by block',
      { ffn_dim: [500, 510], num_kv_heads: [4, 4] },
      { ffn_dim: [300, 300], num_kv_heads: [3, 3], head_dim: 24 },
    ],
  ])('writes widths under the names of %s', (_, config, updated) => {
    expect(updateConfig(config, changed(widths), inline)).toEqual(updated);
  });

  it('writes the largest width, and lists all if blocks differ', () => {
    const uneven = [widths[0]!, { ...widths[1]!, neuronCount: 310 }];
    expect(updateConfig({ intermediate_size: 512 }, changed(uneven), inline)).toMatchObject({
      intermediate_size: 310,
      fang_prune: { blocks: uneven },
    });
    const mixtures = [40, 48].map((expertNeuronCount, block) => ({ block, expertCount: 8, expertNeuronCount }));
    expect(updateConfig({ moe_intermediate_size: 64 }, changed(mixtures), inline)).toEqual({
      moe_intermediate_size: 48,
      fang_prune: { blocks: mixtures },
    });
  });

  it('keeps entries of a list for blocks without such a module', () => {
    const sparse = [{ block: 0, neuronCount: 300 }, { block: 1 }];
    const config = { intermediate_size: [512, 256] };
    expect(updateConfig(config, changed(sparse), inline)).toMatchObject({ intermediate_size: [300, 256] });
  });

  it('keeps the head size if blocks differ, and fills in null', () => {
    const several = [widths[0]!, { ...widths[1]!, headSize: 48 }];
    expect(updateConfig({ head_dim: 24 }, changed(several), inline)).toMatchObject({ head_dim: 24 });
    expect(updateConfig({ head_dim: null }, changed(widths), inline)).toMatchObject({ head_dim: 24 });
  });

  it('keeps numbers of heads that were not measured', () => {
    const config = { num_attention_heads: 8, num_key_value_heads: 4, intermediate_size: 512 };
    const ffnOnly = [{ block: 0, neuronCount: 300 }, { block: 1 }];
    expect(updateConfig(config, changed(ffnOnly), inline)).toMatchObject({ ...config, intermediate_size: 300 });
    expect(updateConfig(config, changed(ffnOnly), inline)).not.toHaveProperty('head_dim');
  });

  it('sets dtype and external data of transformers.js to the written variant', () => {
    const js = { dtype: 'q4', use_external_data_format: { 'model.onnx': 2, 'model_q4.onnx': 1 }, kv_cache_dtype: 'x' };
    const update = (modelFile: string, externalFileCount: number) =>
      updateConfig({ 'transformers.js_config': js }, changed([]), { modelFile, externalFileCount })[
        'transformers.js_config'
      ];
    expect(update('onnx/model.onnx', 1)).toEqual({
      dtype: 'fp32',
      use_external_data_format: { 'model.onnx': 1 },
      kv_cache_dtype: 'x',
    });
    expect(update('onnx/model_fp16.onnx', 0)).toMatchObject({
      dtype: 'fp16',
      use_external_data_format: { 'model_fp16.onnx': 0 },
    });
    expect(update('onnx/other.onnx', 0)).toMatchObject({ dtype: 'q4' });
    expect(updateConfig({ 'transformers.js_config': { a: 1 } }, changed([]), inline)).toEqual({
      'transformers.js_config': { a: 1 },
    });
  });
});

describe('updateConfig of a model with images', () => {
  const vision_config = { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12 };

  it.each(['text_config', 'llm_config', 'language_config'])('updates only %s', (key) => {
    const text = { hidden_size: 256, intermediate_size: 512, num_attention_heads: 8, num_key_value_heads: 4 };
    const updated = updateConfig({ model_type: 'vlm', [key]: text, vision_config }, changed(widths), inline);
    const plain = updateConfig(text, changed(widths), inline);
    const { fang_prune, ...inside } = plain;
    expect(updated).toEqual({ model_type: 'vlm', [key]: inside, vision_config, fang_prune });
    expect(inside).toHaveProperty('head_dim');
  });

  it('updates a width that the config states twice', () => {
    const config = { text_config: { intermediate_size: 512 }, intermediate_size: 512, vision_config };
    const { intermediate_size } = updateConfig(config.text_config, changed(widths), inline);
    const updated = updateConfig(config, changed(widths), inline);
    expect(updated).toMatchObject({ intermediate_size, text_config: { intermediate_size }, vision_config });
    expect(updated).not.toHaveProperty('head_dim');
  });

  it('keeps the entries of other models in transformers.js_config', () => {
    const js = {
      dtype: { decoder_model_merged: 'q4', embed_tokens: 'fp16' },
      use_external_data_format: { decoder_model_merged: 2, 'vision_encoder.onnx': 1 },
    };
    const config = updateConfig({ 'transformers.js_config': js }, changed([]), {
      modelFile: 'onnx/decoder_model_merged.onnx',
      externalFileCount: 1,
    });
    expect(config['transformers.js_config']).toEqual({
      dtype: { decoder_model_merged: 'fp32', embed_tokens: 'fp16' },
      use_external_data_format: { 'decoder_model_merged.onnx': 1, 'vision_encoder.onnx': 1 },
    });
  });
});

describe('updateGenaiConfig', () => {
  const decoder = { head_size: 24, hidden_size: 256, num_attention_heads: 8, num_key_value_heads: 8 };
  const config = { model: { type: 'llama', decoder }, search: { top_k: 1 } };

  it('updates only the decoder', () => {
    expect(updateGenaiConfig(config, widths)).toEqual({
      ...config,
      model: {
        type: 'llama',
        decoder: { head_size: 24, hidden_size: 256, num_attention_heads: 6, num_key_value_heads: 3 },
      },
    });
  });

  it('keeps a head size, which pruning does not change, and fills in null', () => {
    const sizeOf = (head_size: number | null) =>
      updateGenaiConfig({ model: { decoder: { ...decoder, head_size } } }, widths);
    expect(sizeOf(48)).toMatchObject({ model: { decoder: { head_size: 48 } } });
    expect(sizeOf(null)).toMatchObject({ model: { decoder: { head_size: 24 } } });
  });

  it('does not change heads that were not recognised, or configs without a decoder', () => {
    expect(updateGenaiConfig(config, [{ block: 0, neuronCount: 3 }])).toEqual(config);
    expect(updateGenaiConfig({ model: { type: 'x' } }, widths)).toEqual({ model: { type: 'x' } });
  });
});
