import type { ExpertBranch } from '../architecture/trace-channels.js';
import { INT32 } from '../onnx/value.js';
import type { GraphEditor } from './graph-editor.js';

/**
 * Removes experts that are separate nodes from the sum of their mixture, and renumbers the others. `tidyModel` drops the
 * unused nodes later.
 *
 * @param keep Experts that remain, ascending.
 */
export function removeBranches(editor: GraphEditor, branches: readonly ExpertBranch[], keep: Int32Array): void {
  const nodes = editor.model.proto.graph!.node;
  for (const [at, expert] of keep.entries()) {
    const { test, slot } = branches[expert]!;
    const node = editor.producerOf(test)!;
    const dataType = editor.model.weights.get(node.input[slot]!)?.dataType;
    node.input[slot] = editor.addInts([at], dataType === INT32 ? dataType : undefined);
  }
  const sums = new Set(branches.map(({ term }) => term));
  const additions = nodes.filter(({ opType, input, output }) => {
    const isSum = opType === 'Add' && input.every((value) => sums.has(value));
    if (isSum) sums.add(output[0]!);
    return isSum;
  });
  const last = additions.at(-1)!;
  const [result] = last.output;
  const terms = [...keep].map((expert) => branches[expert]!.term);
  const [first = ''] = terms;
  let sum = first;
  for (const term of terms.slice(1, -1)) {
    const next = editor.freshName(`${term}/sum`);
    editor.insertBefore(last, { op: 'Add', inputs: [sum, term], outputs: [next] });
    sum = next;
  }
  editor.insertBefore(
    last,
    terms.length > 1
      ? { op: 'Add', inputs: [sum, terms.at(-1)!], outputs: [result!] }
      : { op: 'Identity', inputs: [sum], outputs: [result!] },
  );
  for (const addition of additions) nodes.splice(nodes.indexOf(addition), 1);
}
