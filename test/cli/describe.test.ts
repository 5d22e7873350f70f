import { createColors } from 'picocolors';
import { formatDescription } from '../../src/cli/describe.js';
import { MODEL_DESCRIPTION, runWithDouble } from '../support/cli.js';

describe('describe', () => {
  it('passes its flags to the API', async () => {
    const { calls } = await runWithDouble('describe dense --embeddings e.onnx --execution-provider cuda');
    expect(calls).toMatchObject([['describe', { model: 'dense', embeddings: 'e.onnx', executionProvider: ['cuda'] }]]);
  });

  it('prints what can be pruned, and why the rest cannot', () => {
    const text = formatDescription(MODEL_DESCRIPTION, createColors(false));
    expect(text).toContain('2.83 M parameters, 2.43 M prunable (86.0 %)');
    expect(text).toContain('0      attention  grouped-query attention  8 heads of 24, 4 KV heads            111 K');
    expect(text).not.toContain('embeddings');
    expect(text).toContain('block 0 ffn: no activation found, at Mul "/mlp/Mul" (nearest: gated ffn)');
  });

  it('prints the number of experts, and their bytes', () => {
    const module = {
      ...({ kind: 'experts', description: 'mixture of experts, 2 of 4 a token', parameters: 75_000 } as const),
      experts: 4,
      expertsPerToken: 2,
      neurons: 96,
      bytes: 51_200,
    };
    const text = formatDescription(
      { ...MODEL_DESCRIPTION, blocks: [{ index: 0, modules: [module] }] },
      createColors(false),
    );
    expect(text).toContain('0      experts  mixture of experts, 2 of 4 a token  4 experts of 96 neurons, 51.2 KB');
  });

  it('prints a single KV head in the singular', () => {
    const attention = { kind: 'attention', description: 'grouped-query attention', parameters: 9000 } as const;
    const text = formatDescription(
      {
        ...MODEL_DESCRIPTION,
        blocks: [{ index: 0, modules: [{ ...attention, heads: 4, kvHeads: 1, headSize: 256 }] }],
      },
      createColors(false),
    );
    expect(text).toContain('4 heads of 256, 1 KV head ');
  });

  it('prints the path of the embedding model', () => {
    const text = formatDescription({ ...MODEL_DESCRIPTION, embeddings: 'a/embed_tokens.onnx' }, createColors(false));
    expect(text).toContain('\nreads embeddings, from a/embed_tokens.onnx (not counted)\n');
  });
});
