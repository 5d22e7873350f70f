import { indexGraph } from '../../src/onnx/graph-index.js';
import { joinStages } from '../../src/onnx/join-stages.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { createGraphBuilder } from '../support/graph-builder.js';

interface Chain {
  /** Whether every stage also reads another value of the first one. */
  readonly carries?: boolean;
}

/** A chain of matrix products with weights of these widths, cut after each but the last. */
async function joined(widths: readonly number[], { carries = false }: Chain = {}): Promise<string[]> {
  const graph = createGraphBuilder();
  let value = graph.input('x', 1, [1, 4]);
  let carried = '';
  widths.forEach((width, at) => {
    const weight = graph.weight([4, width]);
    // Transposed weights count as well.
    const transposed = graph.op('Transpose', [graph.op('Transpose', [weight])]);
    const wide = graph.op('MatMul', [value, transposed]);
    if (at === 0) carried = graph.op('ReduceMax', [wide], { keepdims: 1 });
    const sum = graph.op('ReduceSum', [wide], { keepdims: 1 });
    value = graph.named(`h${at}`, 'Add', [sum, carries ? carried : sum]);
  });
  graph.output(value, 1, [1, 1]);
  const folder = createMemoryFolder('memory', new Map([['model.onnx', graph.bytes()]]));
  const model = await loadModel((await folder.open('model.onnx'))!, folder);
  const cuts = widths.slice(0, -1).map((_, at) => `h${at}`);
  return joinStages(model, { index: indexGraph(model.proto.graph!), cuts, logits: value });
}

describe('joinStages', () => {
  it('joins stages up to the weight of the heaviest one', async () => {
    expect(await joined([40, 10, 10, 15, 10, 10, 40])).toEqual(['h0', 'h3', 'h5']);
  });

  it('does not count values carried from an earlier stage', async () => {
    expect(await joined([40, 10, 10, 15, 10, 10, 40], { carries: true })).toEqual(['h0', 'h3', 'h5']);
  });

  it('returns no cuts for a graph without cuts', async () => {
    expect(await joined([40])).toEqual([]);
  });

  it('does not join stages of equal weight', async () => {
    expect(await joined([10, 10, 10])).toEqual(['h0', 'h1']);
  });
});
