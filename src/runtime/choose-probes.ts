import { UnsupportedModelError } from '../errors.js';
import type { ModelInput } from '../onnx/model-inputs.js';
import type { ProbeSize } from './probe-values.js';

/**
 * Sizes of two runs that differ in batch and window, to find the sizes that depend on them. All numbers are small and
 * distinct, and a window plus a few tokens (attention sinks) is not the same multiple of the batch in both.
 */
const PROBES: readonly [ProbeSize, ProbeSize] = [
  { batchSize: 2, sequenceLength: 3, selectedCount: 7 },
  { batchSize: 3, sequenceLength: 8, selectedCount: 11 },
];

/**
 * Sizes of the two probe runs. A graph for one window at a time is probed with one.
 * @throws UnsupportedModelError for a graph whose windows are of one length, or come in batches of one size above 1.
 */
export function chooseProbes({ name, dims }: ModelInput): readonly [ProbeSize, ProbeSize] {
  const [batch, sequence] = dims;
  if (typeof sequence === 'number') {
    const accepted = sequence === 1 ? 'one token at a time' : `exactly ${sequence} tokens`;
    throw new UnsupportedModelError(
      `"${name}" has dims [${dims.join(', ')}]: the graph takes ${accepted}, and pruning runs windows of any length; export it with an open sequence length (dynamic_axes or dynamic_shapes of torch.onnx.export)`,
    );
  }
  if (typeof batch !== 'number') return PROBES;
  if (batch !== 1) {
    throw new UnsupportedModelError(
      `"${name}" has dims [${dims.join(', ')}]: the graph takes exactly ${batch} windows together, expected one or any number; export it with an open batch size`,
    );
  }
  const [first, second] = PROBES;
  return [
    { ...first, batchSize: 1 },
    { ...second, batchSize: 1 },
  ];
}
