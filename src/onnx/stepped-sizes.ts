import type { NodeProto } from 'onnx-buf';
import { isFloatType } from './float-encoding.js';
import { type GraphIndex, inputsOf } from './graph-index.js';
import type { TwoRunFacts } from './value-facts.js';

/** Integer operators that are not linear in their operands. */
const STEPPING: ReadonlySet<string> = new Set(['Div', 'Mod']);

/**
 * Values whose sizes are step functions of the window, such as the chunks of a scan (Mamba), and cannot be extrapolated
 * from two runs: sizes computed by division or remainder from sizes that differ between the runs, and values shaped by
 * them, up to a sum with a value of known dims.
 */
export function findSteppedSizes(index: GraphIndex, { first, second }: TwoRunFacts): ReadonlySet<string> {
  const stepped = new Set<string>();
  const intsOf = (value: string) => first.get(value)?.ints;
  const differs = (value: string) => intsOf(value)?.join() !== second.get(value)?.ints?.join();
  const hasSameDims = (value: string, other: string) =>
    [first, second].every((facts) => facts.get(value)?.dims.join() === facts.get(other)?.dims.join());
  const isFixedBy = (node: NodeProto, result: string) =>
    isFloatType(first.get(result)?.dataType ?? 0) &&
    JOINING.has(node.opType) &&
    inputsOf(node).some((value) => !stepped.has(value) && hasSameDims(value, result));
  // A size scaled for removed heads divides without remainder, and is linear.
  const isEven = ({ opType, input: [dividend = '', divisor = ''] }: NodeProto) =>
    opType === 'Div' &&
    [first, second].every((facts) => {
      const [of, by] = [facts.get(dividend)?.ints, facts.get(divisor)?.ints];
      return by !== undefined && of?.every((size, at) => size % (by[at] ?? by[0] ?? 0) === 0);
    });
  for (const node of index.nodes) {
    const [result = ''] = node.output;
    const isSource =
      STEPPING.has(node.opType) && intsOf(result) !== undefined && inputsOf(node).some(differs) && !isEven(node);
    const follows = inputsOf(node).some((value) => stepped.has(value)) && !isFixedBy(node, result);
    if (isSource || follows) for (const value of node.output) if (value !== '') stepped.add(value);
  }
  return stepped;
}

/** Broadcasting operators: the result has the dims of the larger operand. */
const JOINING: ReadonlySet<string> = new Set(['Add', 'Mul', 'Sub']);
