import type { NodeProto } from 'onnx-buf';
import type { ChannelTrace } from '../architecture/trace-channels.js';
import { UnsupportedModelError } from '../errors.js';
import { type GraphIndex, nodeLabel } from '../onnx/graph-index.js';
import type { TwoRunFacts } from '../onnx/value-facts.js';
import type { Repeat } from '../operators/axis-rule.js';
import { operatorOf } from '../operators/table.js';
import type { Resize, UpdateSite } from '../operators/update-rule.js';
import type { GraphEditor } from './graph-editor.js';
import { type RemainingUnits, remainingPositions } from './remaining-positions.js';
import { resizeEntries, scaleInts } from './resize-entries.js';

export interface UpdateContext {
  readonly editor: GraphEditor;
  readonly trace: ChannelTrace;
  /** Index of the dense graph. */
  readonly index: GraphIndex;
  readonly facts: TwoRunFacts;
  readonly remaining: RemainingUnits;
}

/** Updates a node's sizes of axes that shrink. @throws UnsupportedModelError when they cannot be updated. */
export function updateNode(node: NodeProto, context: UpdateContext): void {
  const update = operatorOf(node)?.update;
  if (typeof update === 'function') update(makeSite(node, context));
}

function makeSite(node: NodeProto, { editor, trace, index, facts, remaining }: UpdateContext): UpdateSite {
  const dims = (value: string) => facts.first.get(value)?.dims ?? [];
  const isConstant = (value: string) => index.constants.has(value);
  const ints = (value: string): readonly number[] => {
    const known = facts.first.get(value)?.ints;
    if (known !== undefined) return known;
    throw new UnsupportedModelError(`${nodeLabel(node)} reads sizes from "${value}", whose values are unknown`);
  };
  return {
    node,
    unitCount: remaining.units.size,
    groupCount: remaining.groups.size,
    isGrouped: trace.groupOfUnit !== undefined,
    dims,
    ints,
    isConstant,
    labelOf: (value) => trace.labels.get(value),
    remainingPositions: (label) => remainingPositions(label, remaining),
    resizes(value) {
      const repeat = trace.repeats.find((found) => found.value === value);
      if (repeat !== undefined) return repeatSizes(repeat, remaining, dims(value));
      const label = trace.labels.get(value);
      if (label === undefined) return new Map();
      return new Map([[label.axis, { from: label.unitIds.length, to: remainingPositions(label, remaining).length }]]);
    },
    checkFixed(value, axis) {
      if (facts.first.get(value)?.dims[axis] === facts.second.get(value)?.dims[axis]) return;
      throw new UnsupportedModelError(
        `${nodeLabel(node)} selects channels on axis ${axis} of "${value}", whose size depends on batch or window; this cannot be pruned`,
      );
    },
    resizeEntries(slot, entries) {
      const source = node.input[slot] ?? '';
      ints(source);
      resizeEntries(editor, node, { slot, facts, isConstant: isConstant(source), entries });
    },
    setInts(slot, values) {
      node.input[slot] = editor.addInts(values);
    },
    scaleOutput(ratios, reads) {
      const [source = ''] = node.output;
      const readers = editor.consumersOf(source).filter(reads);
      const [first] = readers;
      if (first !== undefined) editor.rewire(readers, source, scaleInts(editor, { source, ratios }, first));
    },
  };
}

function repeatSizes({ groupAxis, memberAxis }: Repeat, { units, groups }: RemainingUnits, dims: readonly number[]) {
  return new Map<number, Resize>([
    [groupAxis, { from: dims[groupAxis] ?? 1, to: groups.size }],
    [memberAxis, { from: dims[memberAxis] ?? 1, to: units.size / groups.size }],
  ]);
}
