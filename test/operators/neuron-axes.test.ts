import { makeNode } from '../../src/onnx/build.js';
import { neuronAxes } from '../../src/operators/experts.js';

/** Two experts of 64 neurons and 32 channels, packed in 4 bits with a scale for every 16 weights. */
const DIMS: Readonly<Record<string, readonly number[]>> = {
  first: [2, 128, 16],
  firstScales: [2, 128, 2],
  firstBias: [2, 128],
  firstPoints: [2, 128, 1],
  second: [2, 32, 32],
  secondScales: [2, 32, 4],
  secondPoints: [2, 32, 2],
};

const axesOf = (second: readonly [scales: string, points: string], attributes = {}) =>
  neuronAxes(
    makeNode({
      op: 'QMoE',
      domain: 'com.microsoft',
      outputs: ['y'],
      inputs: [
        ...['x', 'scores', 'first', 'firstScales', 'firstBias', 'second', second[0], '', '', '', ''],
        ...['firstPoints', second[1]],
      ],
      attributes: { activation_type: 'swiglu', swiglu_fusion: 1, expert_weight_bits: 4, ...attributes },
    }),
    (name) => DIMS[name] ?? [],
  );

const unitsOf = (axes: ReturnType<typeof axesOf>, name: string) =>
  'labels' in axes ? [...axes.labels.get(name)!.unitIds] : [];
const repeat = (count: number, times: number) =>
  Array.from({ length: count * times }, (_, at) => Math.floor(at / times));

it('joins neurons that share a scale or a byte of zero points into units', () => {
  const plain = axesOf(['secondScales', '']);
  expect(plain).toMatchObject({ neuronCount: 64, unitSize: 16, second: { weight: 'second', bits: 4, blocks: 4 } });
  // A gate and a linear part for each neuron, two neurons in a byte, a scale for a run.
  expect(unitsOf(plain, 'first')).toEqual(repeat(4, 32));
  expect(unitsOf(plain, 'second')).toEqual(repeat(4, 8));
  expect(unitsOf(plain, 'secondScales')).toEqual([0, 1, 2, 3]);
  const points = axesOf(['secondScales', 'secondPoints']);
  expect(points).toMatchObject({ unitSize: 32, second: { zeroPoints: 'secondPoints' } });
  expect(unitsOf(points, 'secondScales')).toEqual([0, 0, 1, 1]);
  expect(unitsOf(points, 'secondPoints')).toEqual([0, 1]);
});

it('reads gates that are stored before the linear parts', () => {
  const axes = axesOf(['secondScales', ''], { swiglu_fusion: 2 });
  expect(unitsOf(axes, 'firstBias')).toEqual([...repeat(4, 16), ...repeat(4, 16)]);
});

it.each([
  [{ swiglu_fusion: 0 }, 'its gates are not rows of the first linear layer'],
  [{ activation_type: 'gelu' }, 'its activation is "gelu"'],
  [{ activation_type: 'silu' }, '"first" has 128 rows for 64 neurons'],
  [{ quant_type: 'fp4' }, 'its weights are "fp4"'],
  [{ block_size: 20 }, 'its 64 neurons cannot be divided into runs of 20, which share a byte or a scale'],
])('gives the reason why neurons cannot be removed: %j', (attributes, reason) => {
  expect(axesOf(['secondScales', ''], attributes)).toEqual({ reason });
});
