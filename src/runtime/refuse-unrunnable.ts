import type { GraphProto, NodeProto } from 'onnx-buf';
import { EngineError, UnsupportedModelError } from '../errors.js';
import { findDataType } from '../onnx/data-types.js';
import { nodeLabel } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { shorten } from '../printable.js';
import type { Engine, Session } from './engine.js';
import { neededRuntime } from './explain-refusal.js';

/** A model that ONNX Runtime could not run, and why. */
interface Refusal {
  /** Reason, as the end of a sentence that begins with the engine's name. */
  readonly cannot: string;
  /** Name of the node. Undefined: unknown. */
  readonly node?: string | undefined;
  /** Default: depends on the node, see `remedyFor`. */
  readonly remedy?: string;
}

/** Advice for a file that was invalid before pruning. */
const INVALID =
  'its exporter wrote a file that is not valid: export the model by another exporter, or another version of it; --verbose shows what is wrong';

/** Messages of ONNX Runtime, and what they mean; the first match applies. */
const MESSAGES: readonly { readonly pattern: RegExp; readonly means: (parts: readonly string[]) => Refusal }[] = [
  {
    pattern: /Could not find an implementation for (\S+)\((\d+)\) node with name '(.*?)'/,
    means: ([, op, version, node]) => ({ cannot: `has no kernel for ${op} (version ${version})`, node }),
  },
  {
    // A reason that begins with a path names source code of ONNX Runtime.
    pattern: /running \S+ node\. Name:'(.*?)'(?: Status Message: (?![A-Z]:)([^/\s][^\n]{0,199}))?/,
    means: ([, node, reason]) => ({
      cannot: `has a kernel that does not support the attributes or inputs of this model${reason === undefined ? '' : ` ("${reason.replace(/\.$/, '')}")`}`,
      node,
    }),
  },
  {
    pattern: /Unsupported model IR version: (\d+)/,
    means: ([, version]) => ({ cannot: `does not know IR version ${version}, which the file is in` }),
  },
  {
    pattern: /Opset (\d+) is under development.*for domain (\S+) is till opset (\d+)/s,
    means: ([, opset, domain, highest]) => ({
      cannot: `knows ${domain} up to opset ${highest}, and the model is of opset ${opset}`,
    }),
  },
  {
    pattern: /(?:(\S+) is not a registered function\/op|No Op registered for (\S+))/,
    means: ([, custom, standard]) => ({
      cannot: `does not know the operator ${(custom ?? standard)?.replace(/\(-?\d+\)$/, '')}`,
      remedy: (custom ?? standard)?.startsWith('com.microsoft')
        ? 'update onnxruntime-node where it is older than the exporter, or export the model without fused operators'
        : "export the model with operators of ONNX or ONNX Runtime; operators of one's own are not known to it",
    }),
  },
  {
    pattern: /(?:[Ii]n node \(|In Node, \("|Node ?\()(.*?)[")]/,
    means: ([, node]) => ({ cannot: 'considers a node of this model invalid', node, remedy: INVALID }),
  },
  {
    pattern: /Got invalid dimensions for input: (\S+)/,
    means: ([, input]) => ({
      cannot: `accepts "${input}" in a fixed size only`,
      remedy: 'export the model with open batch and sequence axes (dynamic_axes, dynamic_shapes)',
    }),
  },
  {
    pattern: /External data path (escapes|does not exist)/,
    means: () => ({
      cannot: 'does not read its external data from there',
      remedy:
        'put the file itself into the folder, under the name in the model: links that leave the folder are refused; --verbose shows the path',
    }),
  },
  {
    pattern: /invalid model/i,
    means: () => ({ cannot: 'considers the graph invalid', remedy: INVALID }),
  },
];

/** Types that few kernels support. */
const RARE_TYPES: ReadonlySet<string> = new Set(['bfloat16', 'float8e4m3fn', 'float8e5m2']);

export interface UnrunnableModel {
  readonly engine: Pick<Engine, 'name'>;
  readonly model: Pick<OnnxModel, 'proto' | 'weights'>;
}

/**
 * Explains why the installed runtime cannot run a model; ONNX Runtime's error is the cause. Errors that are not about the
 * model, such as a lack of memory, are returned unchanged.
 */
export function refuseUnrunnable(error: unknown, unrunnable: UnrunnableModel): unknown {
  if (!(error instanceof EngineError) || /allocat|bad_alloc|out of memory/i.test(causeMessage(error))) return error;
  const { message, remedy } = describeUnrunnable(error, unrunnable);
  return new UnsupportedModelError(`${message}; ${remedy}`, { cause: error });
}

/** Explains errors of the first run, which are about the model; later ones are about inputs. */
export function explainFirstRun(session: Session, unrunnable: UnrunnableModel): Session {
  let hasRun = false;
  return {
    ...session,
    async run(feeds, fetches) {
      try {
        const results = await session.run(feeds, fetches);
        hasRun = true;
        return results;
      } catch (error) {
        throw hasRun ? error : refuseUnrunnable(error, unrunnable);
      }
    },
  };
}

/** The refusal in two parts: what cannot run, and advice. */
export function describeUnrunnable(
  error: EngineError,
  { engine, model }: UnrunnableModel,
): { readonly message: string; readonly remedy: string } {
  const cause = causeMessage(error);
  const { cannot, node: name, remedy } = explain(cause);
  const node = findNode(model.proto.graph, name);
  const where = node === undefined ? '' : `: ${nodeLabel(node)}`;
  const types = new Set([...model.weights.values()].map(({ dataType }) => findDataType(dataType)?.name ?? ''));
  const rare = [...types].find((type) => RARE_TYPES.has(type));
  return {
    message: `${engine.name} cannot run the model: it ${cannot}${where}`,
    remedy:
      rare === undefined
        ? (remedy ?? remedyFor(node, neededRuntime(cause)))
        : `its weights are ${rare}, which few kernels support: export the model in float32 or float16`,
  };
}

/** ONNX Runtime's message. */
const causeMessage = ({ cause, message }: EngineError): string => shorten(String(Object(cause).message ?? message));

function explain(message: string): Refusal {
  for (const { pattern, means } of MESSAGES) {
    const parts = message.match(pattern);
    if (parts !== null) return means(parts);
  }
  return { cannot: 'refuses it and names no node' };
}

/** The model's node, also for the name of a node that it was lowered to. */
function findNode(graph: GraphProto | undefined, name: string | undefined): NodeProto | undefined {
  if (name === undefined || name === '') return undefined;
  const [original] = name.split('/lowered/');
  return graph?.node.find((node) => node.name === name || node.output.includes(name) || node.output[0] === original);
}

function remedyFor(node: NodeProto | undefined, needed: string | undefined): string {
  if (node?.domain === 'com.microsoft')
    return 'fused operators built for other devices are not supported by the CPU kernels: build the model for the CPU (onnxruntime-genai: -e cpu), or without fused operators (optimum, torch.onnx), and prune that';
  const newer = needed === undefined ? '' : `${needed}: install that onnxruntime-node, or `;
  return `${newer}export the model at another opset, or by another exporter; --verbose shows its message`;
}
