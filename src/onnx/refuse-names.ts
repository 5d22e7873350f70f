import type { FunctionProto, GraphProto, ModelProto, NodeProto } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import { subgraphsOf } from './graph-index.js';

/**
 * Rejects operators with names of JavaScript's object prototype (`valueOf`, `constructor`), since tables are keyed by operator;
 * values called `__proto__`, since tables are keyed by tensor; and values that two nodes produce. No exporter writes these.
 * @throws ModelFormatError naming the operator or value.
 */
export function refuseNames({ graph, functions }: ModelProto, modelName: string): void {
  for (const nodes of listsOfNodes(graph, functions)) {
    const produced = new Set<string>();
    for (const { opType, domain, input, output } of nodes) {
      if ([opType, `${domain}.${opType}`].some((name) => name in Object.prototype))
        throw refuse(modelName, `has an operator called "${opType}"`);
      for (const value of output) {
        if (value !== '' && produced.has(value)) throw refuse(modelName, `computes the value "${value}" twice`);
        produced.add(value);
      }
      if ([...input, ...output].includes('__proto__')) throw refuse(modelName, 'has a value called "__proto__"');
    }
  }
}

const refuse = (modelName: string, what: string): ModelFormatError =>
  new ModelFormatError(`${modelName} ${what}, which no valid model does. Export the model again.`);

/** Node lists of the graph, its subgraphs and functions, each with its own names. */
function* listsOfNodes(graph: GraphProto | undefined, functions: readonly FunctionProto[]) {
  const open: (readonly NodeProto[])[] = [graph?.node ?? [], ...functions.map(({ node }) => node)];
  for (let nodes = open.pop(); nodes !== undefined; nodes = open.pop()) {
    yield nodes;
    for (const node of nodes) open.push(...subgraphsOf(node).map((graph) => graph.node));
  }
}
