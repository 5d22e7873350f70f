import type { NodeProto } from 'onnx-buf';
import { floatAttribute } from '../graph/attributes.js';
import { makeNode } from '../graph/build.js';
import type { Lowering } from './gradient-rule.js';
import { type Family, missing, type Operator, PLAIN } from './operator.js';

/** A norm of the sum of inputs 0 and 1, by its other inputs. */
interface ResidualNorm {
  /** Norm of ONNX's own or ONNX Runtime's that does the same to the sum. */
  readonly op: string;
  /** Scale, and for layer norm what is added to the result. */
  readonly scale: readonly number[];
  /** Added to the first term of the sum. */
  readonly bias: number;
}

/** The defaults of ONNX Runtime's fused norms. */
const readEpsilon = (node: NodeProto): number => floatAttribute(node, 'epsilon', 1e-12);

/** Their fourth output is the sum, which goes on along the residual stream. */
const residualNorm = (form: ResidualNorm): Operator => ({
  ...PLAIN,
  axis: missing('it is taken apart before channels are followed'),
  gradient: { lower: sumAndNorm(form) },
  split: (node) =>
    splitNorm(node, {
      op: form.op,
      terms: node.input.slice(0, 2),
      sum: node.output[3],
      scale: form.scale.map((at) => node.input[at] ?? ''),
      bias: node.input[form.bias] ?? '',
    }),
});

/** ONNX Runtime's norms of a sum with the residual stream. */
export const RESIDUAL_NORMS = {
  'com.microsoft.SkipSimplifiedLayerNormalization': residualNorm({
    op: 'SimplifiedLayerNormalization',
    scale: [2],
    bias: 3,
  }),
  'com.microsoft.SkipLayerNormalization': residualNorm({
    op: 'LayerNormalization',
    scale: [2, 3],
    bias: 4,
  }),
  /** Inputs: 0 tokens, 1 segments, 2 words, 3 positions' table, 5 gamma, 6 beta, 8 positions. */
  'com.microsoft.EmbedLayerNormalization': {
    ...PLAIN,
    axis: missing('it is taken apart before channels are followed'),
    gradient: missing('gradients end behind the embeddings'),
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

function sumAndNorm({ op, scale, bias }: ResidualNorm): Lowering {
  return ({ node, o, has, input }) => {
    const sum = o.add(has(bias) ? o.add(input(0), input(bias)) : input(0), input(1));
    const attributes = { axis: -1, epsilon: { float: readEpsilon(node) } };
    const normed = o.emitter.node(op, [sum, ...scale.filter(has).map(input)], { ...sum, attributes });
    return [normed, undefined, undefined, sum];
  };
}

interface SplitNorm {
  readonly op: string;
  readonly terms: readonly string[];
  readonly scale: readonly string[];
  readonly bias: string;
  /** Name of the sum, where the fused node hands it out. */
  readonly sum: string | undefined;
}

/** Every value keeps its name; a sum that the fused node did not hand out gets one made from its first output. */
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
