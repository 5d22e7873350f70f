import type { GraphProto, NodeProto } from 'onnx-buf';
import { EngineError, UnsupportedModelError } from '../errors.js';
import { nodeLabel } from '../graph/graph-index.js';
import { findDataType } from '../onnx/data-types.js';

/** What ONNX Runtime could not do of a model. */
interface Refusal {
  /** In the words of a sentence that begins with the engine's name. */
  readonly cannot: string;
  /** Name of the node it names. */
  readonly node?: string | undefined;
  /** What to do instead, where the node does not tell. */
  readonly remedy?: string;
}

/** How ONNX Runtime puts it, and what it means; the first row that fits counts. */
const MESSAGES: readonly { readonly said: RegExp; readonly means: (parts: readonly string[]) => Refusal }[] = [
  {
    said: /Could not find an implementation for (\S+)\((\d+)\) node with name '(.*?)'/,
    means: ([, op, version, node]) => ({ cannot: `has no kernel for ${op} (version ${version})`, node }),
  },
  {
    said: /running \S+ node\. Name:'(.*?)'/,
    means: ([, node]) => ({ cannot: 'has a kernel that refuses what this model asks of it', node }),
  },
  {
    said: /Unsupported model IR version: (\d+)/,
    means: ([, version]) => ({ cannot: `does not know IR version ${version}, which the file is in`, remedy: NEWER }),
  },
  {
    said: /Opset (\d+) is under development.*for domain (\S+) is till opset (\d+)/s,
    means: ([, opset, domain, highest]) => ({
      cannot: `knows ${domain} up to opset ${highest}, and the model is of opset ${opset}`,
      remedy: NEWER,
    }),
  },
  {
    said: /(?:(\S+) is not a registered function\/op|No Op registered for (\S+))/,
    means: ([, custom, standard]) => ({
      cannot: `does not know the operator ${(custom ?? standard)?.replace(/\(-?\d+\)$/, '')}`,
      remedy: `${NEWER}; operators of one's own are not known to it`,
    }),
  },
  {
    said: /(?:[Ii]n node \(|In Node, \("|Node ?\()(.*?)[")]/,
    means: ([, node]) => ({ cannot: 'takes a node of this model for invalid', node }),
  },
];

const NEWER = 'install a newer onnxruntime-node, or export the model at a lower opset';

/** Types that few kernels are written for. */
const RARE_TYPES: ReadonlySet<string> = new Set(['bfloat16', 'float8e4m3fn', 'float8e5m2']);

export interface UnrunnableModel {
  readonly engineName: string;
  /** The model's own graph. */
  readonly graph: GraphProto;
  /** Element types of its weights, as `TensorProto.DataType` numbers. */
  readonly types: Iterable<number>;
}

/**
 * Says in this library's words what the installed runtime cannot do of a model that it was given as it is; ONNX Runtime's own
 * are the cause. Whatever is no refusal of the model (memory that runs out) comes back as it was.
 */
export function refuseUnrunnable(error: unknown, { engineName, graph, types }: UnrunnableModel): unknown {
  if (!(error instanceof EngineError)) return error;
  const said = error.cause instanceof Error ? error.cause.message : error.message;
  if (/allocat|bad_alloc|out of memory/i.test(said)) return error;
  const { cannot, node: name, remedy } = explain(said);
  const node = findNode(graph, name);
  const where = node === undefined ? '' : `: ${nodeLabel(node)}`;
  const rare = [...new Set(types)].map((type) => findDataType(type)?.name ?? '').find((type) => RARE_TYPES.has(type));
  const instead =
    rare === undefined
      ? (remedy ?? remedyFor(node))
      : `its weights are ${rare}, for which few kernels are written: export the model in float32 or float16`;
  return new UnsupportedModelError(
    `the model cannot be run to be pruned, for ${engineName} ${cannot}${where}; ${instead}`,
    {
      cause: error,
    },
  );
}

function explain(said: string): Refusal {
  for (const { said: pattern, means } of MESSAGES) {
    const parts = said.match(pattern);
    if (parts !== null) return means(parts);
  }
  return { cannot: 'does not take it and names no node' };
}

/** The model's node, also where a form of it written out was run. */
function findNode({ node: nodes }: GraphProto, name: string | undefined): NodeProto | undefined {
  if (name === undefined || name === '') return undefined;
  const [original] = name.split('/lowered/');
  return nodes.find((node) => node.name === name || node.output.includes(name) || node.output[0] === original);
}

function remedyFor(node: NodeProto | undefined): string {
  return node?.domain === 'com.microsoft'
    ? 'fused operators built for other devices ask for more than the CPU kernels do: build the model for the CPU (onnxruntime-genai: -e cpu), or without fused operators (optimum, torch.onnx), and prune that'
    : `${NEWER}; --verbose shows what it said`;
}
