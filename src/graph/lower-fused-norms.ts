import type { NodeProto } from 'onnx-buf';
import { floatAttribute } from './attributes.js';
import { makeNode } from './build.js';

/**
 * Splits ONNX Runtime's fused residual norms into Add and norm, so that the residual stream is a value of its own.
 * Every value keeps its name; a residual sum that the fused node did not hand out gets one made from its first output.
 * Only the graphs that run during pruning are lowered, never the model that is written.
 */
export function lowerFusedNorms(nodes: readonly NodeProto[]): NodeProto[] {
  return nodes.flatMap((node) => {
    const lower = node.domain === 'com.microsoft' ? LOWERINGS[node.opType] : undefined;
    return lower?.(node) ?? [node];
  });
}

/** A lowering gives `undefined` for a form it does not cover; the node then stays fused. */
const LOWERINGS: Readonly<Record<string, (node: NodeProto) => NodeProto[] | undefined>> = {
  SkipSimplifiedLayerNormalization: (node) => {
    const [input = '', skip = '', gamma = '', bias = ''] = node.input;
    return residualNorm(node, {
      terms: [input, skip],
      bias,
      norm: 'SimplifiedLayerNormalization',
      scale: [gamma],
      sum: node.output[3],
    });
  },
  SkipLayerNormalization: (node) => {
    const [input = '', skip = '', gamma = '', beta = '', bias = ''] = node.input;
    return residualNorm(node, {
      terms: [input, skip],
      bias,
      norm: 'LayerNormalization',
      scale: [gamma, beta],
      sum: node.output[3],
    });
  },
  EmbedLayerNormalization: (node) => {
    const [tokens = '', segments = '', words = '', positionTable = '', , gamma = '', beta = '', , positions = ''] =
      node.input;
    if (segments !== '' || positions === '' || node.output[1] === undefined) return undefined;
    const word = `${node.output[0]}/word`;
    const position = `${node.output[0]}/position`;
    return [
      makeNode({ op: 'Gather', inputs: [words, tokens], outputs: [word] }),
      makeNode({ op: 'Gather', inputs: [positionTable, positions], outputs: [position] }),
      ...residualNorm(node, {
        terms: [word, position],
        bias: '',
        norm: 'LayerNormalization',
        scale: [gamma, beta],
        sum: node.output[2],
      }),
    ];
  },
};

interface ResidualNorm {
  readonly terms: readonly [string, string];
  readonly bias: string;
  readonly norm: string;
  readonly scale: readonly string[];
  readonly sum: string | undefined;
}

function residualNorm(node: NodeProto, { terms, bias, norm, scale, sum: given }: ResidualNorm): NodeProto[] {
  const [normed = ''] = node.output;
  const sum = given || `${normed}/residual_sum`;
  const biased = bias === '' ? terms[0] : `${normed}/biased`;
  const nodes: NodeProto[] = [];
  if (bias !== '')
    nodes.push(makeNode({ op: 'Add', name: `${node.name}/bias`, inputs: [terms[0], bias], outputs: [biased] }));
  nodes.push(makeNode({ op: 'Add', name: `${node.name}/sum`, inputs: [biased, terms[1]], outputs: [sum] }));
  if (normed !== '') {
    nodes.push(
      makeNode({
        op: norm,
        name: `${node.name}/norm`,
        inputs: [sum, ...scale.filter((value) => value !== '')],
        outputs: [normed],
        attributes: { axis: -1, epsilon: { float: floatAttribute(node, 'epsilon', 1e-12) } },
      }),
    );
  }
  return nodes;
}
