import type { NodeProto } from 'onnx-buf';
import { isFloatType } from '../onnx/float-encoding.js';
import { type GraphIndex, inputsOf } from './graph-index.js';
import type { TwoRunFacts } from './value-facts.js';

/** Whole numbers that do not grow evenly with their operands. */
const STEPPING: ReadonlySet<string> = new Set(['Div', 'Mod']);

/**
 * Values with sizes that follow the window in steps, such as the chunks of a scan (Mamba): two runs do not tell how they grow. Sizes
 * computed by division or remainder from sizes that differ between the runs, and what is laid out by them, until a sum with a
 * value of the same dims that is none of them.
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
  // A size that removed heads scale by a fraction divides evenly, and grows so.
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

/** Operators whose result has the dims of the larger operand. */
const JOINING: ReadonlySet<string> = new Set(['Add', 'Mul', 'Sub']);
