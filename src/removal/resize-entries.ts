import type { NodeProto } from 'onnx-buf';
import type { TwoRunFacts } from '../onnx/value-facts.js';
import { type Resize, SAME } from '../operators/update-rule.js';
import type { GraphEditor } from './graph-editor.js';

/** An integer vector that a node reads (a shape, starts, repeats), and its entries that depend on pruned axes. */
export interface SizeOperand {
  readonly slot: number;
  readonly facts: TwoRunFacts;
  readonly isConstant: boolean;
  /** By index of the entry; others are unchanged. */
  readonly entries: ReadonlyMap<number, Resize>;
}

/**
 * Resizes entries of a node's integer operand. A constant is replaced; of a Concat of single sizes, only the pieces of
 * these entries are; any other vector is scaled, which is also right for sizes that depend on the input.
 */
export function resizeEntries(editor: GraphEditor, node: NodeProto, operand: SizeOperand): void {
  const { slot, facts, entries, isConstant } = operand;
  if (entries.size === 0) return;
  const source = node.input[slot] ?? '';
  const { ints = [], dataType = INT64 } = facts.first.get(source) ?? {};
  if (isConstant) {
    node.input[slot] = editor.addInts(
      ints.map((value, at) => entries.get(at)?.to ?? value),
      dataType,
    );
    return;
  }
  const pieces = singlePieces(editor, source, facts);
  if (pieces === undefined) {
    const ratios = ints.map((_, at) => entries.get(at) ?? SAME);
    node.input[slot] = scaleInts(editor, { source, ratios, dataType }, node);
    return;
  }
  const resized = pieces.map((piece, at) => {
    const ratio = entries.get(at);
    if (ratio === undefined) return piece;
    const isFixed = facts.first.get(piece)?.ints?.[0] === facts.second.get(piece)?.ints?.[0];
    return isFixed ? editor.addInts([ratio.to]) : scaleInts(editor, { source: piece, ratios: [ratio], dataType }, node);
  });
  const joined = editor.freshName(`${source}/pruned`);
  editor.insertBefore(node, { op: 'Concat', inputs: resized, outputs: [joined], attributes: { axis: 0 } });
  node.input[slot] = joined;
}

/** An integer vector and the factor of each entry, as a ratio. */
export interface ScaledInts {
  readonly source: string;
  readonly ratios: readonly Resize[];
  readonly dataType?: number;
}

const INT64 = 7;

/** Scales an integer vector entry by entry, by nodes before `before`. @returns Name of the result. */
export function scaleInts(
  editor: GraphEditor,
  { source, ratios, dataType = INT64 }: ScaledInts,
  before: NodeProto,
): string {
  const multiplied = editor.freshName(`${source}/multiplied`);
  const scaled = editor.freshName(`${source}/scaled`);
  const factors = editor.addInts(
    ratios.map(({ to }) => to),
    dataType,
  );
  const divisors = editor.addInts(
    ratios.map(({ from }) => from),
    dataType,
  );
  editor.insertBefore(before, { op: 'Mul', inputs: [source, factors], outputs: [multiplied] });
  editor.insertBefore(before, { op: 'Div', inputs: [multiplied, divisors], outputs: [scaled] });
  return scaled;
}

/** The operands of the Concat that computes a vector, if each of them is one entry. */
function singlePieces(editor: GraphEditor, source: string, { first }: TwoRunFacts): readonly string[] | undefined {
  const producer = editor.producerOf(source);
  const isSingle = (piece: string): boolean => first.get(piece)?.ints?.length === 1;
  return producer?.opType === 'Concat' && producer.input.every(isSingle) ? producer.input : undefined;
}
