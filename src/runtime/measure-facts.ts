import { makeNode } from '../onnx/build.js';
import { extractStage } from '../onnx/extract-stage.js';
import type { GraphIndex } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { TwoRunFacts, ValueFact, ValueFacts } from '../onnx/value-facts.js';
import { compileStage } from './compile-stage.js';
import type { Engine, Tensor } from './engine.js';
import { factOf } from './probe-values.js';
import { releaseTensors } from './tensor-memory.js';

export interface MeasureRequest {
  readonly engine: Engine;
  readonly model: OnnxModel;
  readonly index: GraphIndex;
  readonly facts: TwoRunFacts;
  /** Whether a value can be fed, so that it need not be computed. */
  isAvailable(value: string): boolean;
  /** Values to compute. */
  readonly outputs: readonly string[];
  feedsOf(names: readonly string[]): Record<string, Tensor>;
}

/**
 * Runs a stage once to measure the dims and small contents of values that cannot be extrapolated from two probes.
 *
 * @returns facts of those values only; without such values nothing runs.
 */
export async function measureFacts(request: MeasureRequest): Promise<ValueFacts> {
  const { engine, model, index, facts, isAvailable, outputs, feedsOf } = request;
  const { first, stepped = new Set() } = facts;
  if (stepped.size === 0) return new Map();
  const slice = extractStage(index, { outputs, isAvailable });
  const found = new Map<string, ValueFact>();
  const inputs = slice.inputs.filter((value) => stepped.has(value));
  for (const [name, tensor] of Object.entries(feedsOf(inputs))) found.set(name, factOf(tensor));
  const measured = slice.nodes
    .flatMap(({ output }) => output)
    .filter((value) => stepped.has(value) && first.has(value));
  if (measured.length === 0) return found;
  const shapeOf = (value: string) => `${value}/measured_shape`;
  const withContents = measured.filter((value) => first.get(value)!.ints !== undefined);
  const compiled = await compileStage({
    engine,
    model,
    index,
    isAvailable,
    facts,
    fetches: withContents,
    reads: measured,
    extension: {
      nodes: measured.map((value) => makeNode({ op: 'Shape', inputs: [value], outputs: [shapeOf(value)] })),
      initializers: [],
      inputs: [],
      outputs: measured.map(shapeOf),
    },
    session: { isBrief: true, optimization: 'none' },
  });
  try {
    const results = await compiled.session.run(feedsOf(compiled.inputs));
    for (const value of measured) {
      const { dataType } = first.get(value)!;
      const dims = Array.from(results[shapeOf(value)]!.data as BigInt64Array, Number);
      const contents = results[value];
      found.set(value, contents === undefined ? { dims, dataType } : { ...factOf(contents), dataType });
    }
    releaseTensors(results);
    return found;
  } finally {
    await compiled.session.release();
  }
}
