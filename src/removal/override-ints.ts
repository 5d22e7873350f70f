import type { NodeProto } from 'onnx-buf';
import type { GraphEditor } from './graph-editor.js';

/** What two runs of different size showed an integer operand to hold. */
export interface ObservedInts {
  readonly first: readonly number[];
  readonly second: readonly number[];
}

/**
 * Sets entries of a node's integer operand (a shape, starts, sizes), whatever computes it.
 * Entries that were the same in both runs become constants too, because a graph may derive them from what is cut
 * (head size = width / heads); entries that differ go on being computed.
 */
export function overrideInts(
  editor: GraphEditor,
  node: NodeProto,
  slot: number,
  { observed, entries }: { readonly observed: ObservedInts; readonly entries: ReadonlyMap<number, number> },
): void {
  const source = node.input[slot] ?? '';
  const { first, second } = observed;
  const wanted = first.map((value, at) => entries.get(at) ?? (value === second[at] ? value : undefined));
  if (wanted.every((value) => value !== undefined)) {
    node.input[slot] = editor.addInts(wanted);
    return;
  }
  const pieces: string[] = [];
  for (let at = 0; at < wanted.length; ) {
    const run = wanted.slice(at).findIndex((value) => (value === undefined) !== (wanted[at] === undefined));
    const end = run < 0 ? wanted.length : at + run;
    const constants = wanted.slice(at, end).filter((value) => value !== undefined);
    pieces.push(constants.length > 0 ? editor.addInts(constants) : sliceOf(editor, node, { source, start: at, end }));
    at = end;
  }
  const joined = editor.freshName(`${source}/pruned`);
  editor.insertBefore(node, { op: 'Concat', inputs: pieces, outputs: [joined], attributes: { axis: 0 } });
  node.input[slot] = joined;
}

function sliceOf(
  editor: GraphEditor,
  node: NodeProto,
  { source, start, end }: { readonly source: string; readonly start: number; readonly end: number },
): string {
  const part = editor.freshName(`${source}/${start}_${end}`);
  const inputs = [source, editor.addInts([start]), editor.addInts([end]), editor.addInts([0])];
  editor.insertBefore(node, { op: 'Slice', inputs, outputs: [part] });
  return part;
}
