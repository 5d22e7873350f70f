import type { NodeProto } from 'onnx-buf';
import { floatAttribute } from '../onnx/attributes.js';
import { makeNode } from '../onnx/build.js';
import type { LoweringContext } from './gradient-rule.js';
import { type Family, missing, type Operator, PLAIN } from './operator.js';

/** The default of ONNX Runtime's fused norms. */
const readEpsilon = (node: NodeProto): number => floatAttribute(node, 'epsilon', 1e-12);

/** The norm `op` of the sum of inputs 0 and 1, by the inputs with scale and shift, and the one with a bias of the sum. */
const residualNorm = (op: string, scale: readonly number[], bias: number): Operator => ({
  ...PLAIN,
  axis: missing('it is decomposed before channels are traced'),
  gradient: { lower: (c) => sumAndNorm(c, { op, scale, bias }) },
  parameters: Object.fromEntries([...scale, bias].map((slot) => [slot, 'vector'])),
  split: (node) => {
    const [terms, weights] = [node.input.slice(0, 2), scale.map((slot) => node.input[slot] ?? '')];
    return splitNorm(node, { op, terms, scale: weights, bias: node.input[bias] ?? '', sum: node.output[3] });
  },
});

/** ONNX Runtime's norms of a sum with the residual stream. */
export const RESIDUAL_NORMS = {
  'com.microsoft.SkipSimplifiedLayerNormalization': residualNorm('SimplifiedLayerNormalization', [2], 3),
  'com.microsoft.SkipLayerNormalization': residualNorm('LayerNormalization', [2, 3], 4),
  /** Inputs: 0 tokens, 1 segments, 2 words, 3 positions' table, 5 gamma, 6 beta, 8 positions. */
  'com.microsoft.EmbedLayerNormalization': {
    ...PLAIN,
    positionTable: 3,
    axis: missing('it is decomposed before channels are traced'),
    gradient: missing('gradients end after the embeddings'),
    split: (node) => {
      const [tokens = '', segments = '', words = '', table = '', , gamma = '', beta = '', , positions = ''] =
        node.input;
      if (segments !== '' || positions === '' || node.output[1] === undefined) return undefined;
      const [word, position] = [`${node.output[0]}/word`, `${node.output[0]}/position`];
      const sum = node.output[2];
      return [
        makeNode({ op: 'Gather', inputs: [words, tokens], outputs: [word] }),
        makeNode({ op: 'Gather', inputs: [table, positions], outputs: [position] }),
        ...splitNorm(node, { op: 'LayerNormalization', terms: [word, position], scale: [gamma, beta], bias: '', sum }),
      ];
    },
  },
} as const satisfies Family;

interface Slots {
  readonly op: string;
  readonly scale: readonly number[];
  readonly bias: number;
}

/** Its fourth output is the sum, on the residual stream. */
function sumAndNorm({ node, o, has, input }: LoweringContext, { op, scale, bias }: Slots) {
  const sum = o.add(has(bias) ? o.add(input(0), input(bias)) : input(0), input(1));
  const attributes = { axis: -1, epsilon: { float: readEpsilon(node) } };
  const normed = o.emitter.node(op, [sum, ...scale.filter(has).map(input)], { ...sum, attributes });
  return [normed, undefined, undefined, sum];
}

interface SplitNorm {
  readonly op: string;
  readonly terms: readonly string[];
  readonly scale: readonly string[];
  readonly bias: string;
  /** Name of the sum, where the fused node returns it. */
  readonly sum: string | undefined;
}

/** Every value keeps its name; a sum that the fused node does not return is named after its first output. */
function splitNorm(node: NodeProto, { op, terms, scale, bias, sum: given }: SplitNorm): NodeProto[] {
  const [normed = ''] = node.output;
  const [first = '', second = ''] = terms;
  const sum = given || `${normed}/residual_sum`;
  const biased = bias === '' ? first : `${normed}/biased`;
  const nodes: NodeProto[] = [];
  if (bias !== '')
    nodes.push(makeNode({ op: 'Add', name: `${node.name}/bias`, inputs: [first, bias], outputs: [biased] }));
  nodes.push(makeNode({ op: 'Add', name: `${node.name}/sum`, inputs: [biased, second], outputs: [sum] }));
  if (normed !== '') {
    nodes.push(
      makeNode({
        op,
        name: `${node.name}/norm`,
        inputs: [sum, ...scale.filter((value) => value !== '')],
        outputs: [normed],
        attributes: { axis: -1, epsilon: { float: readEpsilon(node) } },
      }),
    );
  }
  return nodes;
}
