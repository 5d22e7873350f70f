import { indexGraph } from '../../src/onnx/graph-index.js';
import { joinStages } from '../../src/onnx/join-stages.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { createMemoryFolder } from '../../src/onnx/memory-folder.js';
import { createGraphBuilder } from '../support/graph-builder.js';

interface Chain {
  /** Whether every stage reads something that the first one made, beside the stream. */
  readonly carries?: boolean;
}

/** A chain of products whose weights have these sizes, cut behind every one but the last. */
async function joined(widths: readonly number[], { carries = false }: Chain = {}): Promise<string[]> {
  const graph = createGraphBuilder();
  let value = graph.input('x', 1, [1, 4]);
  let beside = '';
  widths.forEach((width, at) => {
    const weight = graph.weight([4, width]);
    // A weight that is turned over first counts as well.
    const turned = graph.op('Transpose', [graph.op('Transpose', [weight])]);
    const wide = graph.op('MatMul', [value, turned]);
    if (at === 0) beside = graph.op('ReduceMax', [wide], { keepdims: 1 });
    const sum = graph.op('ReduceSum', [wide], { keepdims: 1 });
    value = graph.named(`h${at}`, 'Add', [sum, carries ? beside : sum]);
  });
  graph.output(value, 1, [1, 1]);
  const folder = createMemoryFolder('memory', new Map([['model.onnx', graph.bytes()]]));
  const model = await loadModel((await folder.open('model.onnx'))!, folder);
  const cuts = widths.slice(0, -1).map((_, at) => `h${at}`);
  return joinStages(model, { index: indexGraph(model.proto.graph!), cuts, logits: value });
}

describe('joinStages', () => {
  it('puts as many stages together as weigh what the heaviest does', async () => {
    expect(await joined([40, 10, 10, 15, 10, 10, 40])).toEqual(['h0', 'h3', 'h5']);
  });

  it('does not count what is carried from an earlier stage', async () => {
    expect(await joined([40, 10, 10, 15, 10, 10, 40], { carries: true })).toEqual(['h0', 'h3', 'h5']);
  });

  it('takes a graph without cuts as it is', async () => {
    expect(await joined([40])).toEqual([]);
  });

  it('keeps stages apart that weigh the same', async () => {
    expect(await joined([10, 10, 10])).toEqual(['h0', 'h1']);
  });
});
