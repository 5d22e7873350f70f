import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { intAttribute } from '../onnx/attributes.js';
import { type GraphIndex, inputsOf } from '../onnx/graph-index.js';
import type { ModelInput } from '../onnx/model-inputs.js';
import { dataInputs, findEmbeddings } from '../onnx/partition.js';
import type { ValueFact, ValueFacts } from '../onnx/value-facts.js';
import { operatorOf } from '../operators/table.js';

export interface EncoderCheck {
  readonly index: GraphIndex;
  readonly facts: ValueFacts;
  readonly inputs: readonly ModelInput[];
  readonly tokenInput: string;
  /** Output that is used as logits. */
  readonly logits: string;
  /** Tokens per window in the run that the facts come from. */
  readonly sequenceLength: number;
}

/**
 * Refuses a model that returns hidden states, or whose tokens may all attend to each other: it does not predict the next
 * token, so that its quality cannot be measured.
 * @throws UnsupportedModelError
 */
export function refuseEncoder(check: EncoderCheck): void {
  const { index, facts, inputs, tokenInput, logits } = check;
  const [table] = findEmbeddings(index, tokenInput).map((at) => facts.get(index.nodes[at]!.input[0] ?? '')?.dims);
  const dims = facts.get(logits)?.dims ?? [];
  if (dims.length !== 3) {
    throw new UnsupportedModelError(
      `"${logits}" has dims [${dims}], expected [batch, window, vocabulary]; classifiers cannot be pruned, only text decoders`,
    );
  }
  const width = dims.at(-1);
  if (table !== undefined && width === table[1] && width !== table[0]) {
    throw new UnsupportedModelError(
      `"${logits}" is as wide as an embedding (${width}), not as the vocabulary (${table[0]}): the model returns hidden states, not logits; export a decoder with its language model head, encoders cannot be pruned`,
    );
  }
  const hasCache = inputs.some(({ role }) => role === 'past' || role === 'state');
  if (!hasCache && !isCausal(check)) {
    throw new UnsupportedModelError(
      'no mask in the graph keeps a token from attending to later ones; encoders cannot be pruned, only decoder-only transformers',
    );
  }
}

const COMPARISONS: ReadonlySet<string> = new Set(['Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual', 'Trilu']);

/** Whether an operator masks later tokens: always, or by an attribute. */
function masksFuture(node: NodeProto): boolean {
  const tokens = operatorOf(node)?.tokens;
  if (typeof tokens !== 'object' || tokens.causal === 'no') return false;
  return tokens.causal === 'always' || intAttribute(node, tokens.causal.attribute, 0) === 1;
}

/** Whether anything depends on pairs of positions: a fused operator, a comparison, or a table. */
function isCausal({ index, facts, inputs, tokenInput, sequenceLength }: EncoderCheck): boolean {
  const contents = new Set([
    tokenInput,
    ...inputs.filter(({ role }) => role === 'attentionMask' || role === 'tokenTypes').map(({ name }) => name),
  ]);
  const isSquare = ({ dims = [] }: Partial<ValueFact> = {}): boolean =>
    dims.length >= 2 && dims.slice(-2).every((dim) => dim === sequenceLength);
  return index.nodes.some((node) => {
    if (masksFuture(node)) return true;
    if (inputsOf(node).length > 0 && dataInputs(node).some((value) => contents.has(value))) {
      for (const value of node.output) contents.add(value);
      return COMPARISONS.has(node.opType) && node.output.some((value) => isSquare(facts.get(value)));
    }
    return node.output.some((value) => isSquare(facts.get(value)));
  });
}
