import type { TensorHandle } from '../onnx/onnx-model.js';
import { floatsHandle } from '../onnx/tensor-handle.js';
import type { DecidedRemoval } from '../removal/apply-removals.js';
import type { RecipeModule } from './recipe-schema.js';

/** Decisions as a recipe holds them. */
export interface RecipeParts {
  readonly modules: readonly RecipeModule[];
  /** Repaired weights and biases by name. */
  readonly tensors: ReadonlyMap<string, TensorHandle>;
}

const DOUBLE = 11;

/** Divides a run's decisions: numbers for people into JSON, weights into tensors. */
export function buildRecipeParts(removals: readonly DecidedRemoval[]): RecipeParts {
  const tensors = new Map<string, TensorHandle>();
  const keepTensor = (name: string, handle: TensorHandle): string => {
    tensors.set(name, handle);
    return name;
  };
  const modules = removals.map(({ module, keep, weight, inputs, bias }): RecipeModule => {
    const { index, block, kind } = module;
    const name = `block.${block}.${kind}.${index}`;
    return {
      index,
      block,
      kind,
      keep: [...keep],
      ...(weight && { weight: keepTensor(`${name}.weight`, weight) }),
      ...(inputs && { inputs: inputs.map((input, at) => keepTensor(`${name}.input.${at}`, input)) }),
      ...(bias && {
        bias: keepTensor(`${name}.bias`, floatsHandle({ dataType: DOUBLE, dims: [bias.length] }, bias)),
      }),
    };
  });
  return { modules, tensors };
}
