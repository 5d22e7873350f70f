import { openFusedNeurons } from '../../src/activations/expert-neurons.js';
import { openExpertProbe } from '../../src/activations/expert-probe.js';
import { testEngine } from '../support/engine.js';
import type { GraphBuilder } from '../support/graph-builder.js';
import { buildDecoder, HIDDEN, NEURONS } from '../support/small-decoder.js';
import { loadTinyLlama } from '../support/tiny-llama.js';

const EXPERTS = 3;
const router = (g: GraphBuilder, x: string) =>
  g.op('Reshape', [g.op('MatMul', [x, g.weight([HIDDEN, EXPERTS])]), g.ints(-1, EXPERTS)]);

const float = (g: GraphBuilder, x: string, attributes: Readonly<Record<string, number | string>>, maps: number) =>
  g.op(
    'MoE',
    [
      ...[x, router(g, x), g.weight([EXPERTS, maps * NEURONS, HIDDEN], 0.5), g.weight([EXPERTS, maps * NEURONS], 0.2)],
      g.weight([EXPERTS, HIDDEN, NEURONS], 0.5),
    ],
    { k: 2, ...attributes },
    'com.microsoft',
  );

/** With a scale for every row, and zero points, two in a byte. */
const packed = (g: GraphBuilder, x: string) =>
  g.op(
    'QMoE',
    [
      ...[
        x,
        router(g, x),
        g.codes([EXPERTS, 2 * NEURONS, HIDDEN / 2]),
        g.weight([EXPERTS, 2 * NEURONS], 0.02, 0.08),
        '',
      ],
      ...[g.codes([EXPERTS, HIDDEN, NEURONS / 2]), g.weight([EXPERTS, HIDDEN], 0.02, 0.08), '', '', '', ''],
      ...[g.codes([EXPERTS, NEURONS]), g.codes([EXPERTS, HIDDEN / 2])],
    ],
    {
      k: 2,
      normalize_routing_weights: 1,
      activation_type: 'swiglu',
      swiglu_fusion: 1,
      expert_weight_bits: 4,
    },
    'com.microsoft',
  );

it.each<[string, (g: GraphBuilder, x: string) => string, number, number]>([
  ['interleaved gate', (g, x) => float(g, x, { activation_type: 'swiglu', swiglu_fusion: 1 }, 2), NEURONS, 1],
  ['no gate', (g, x) => float(g, x, { activation_type: 'silu' }, 1), NEURONS, 1],
  ['packed', packed, NEURONS, 2],
])('reproduces the operator with the second linear layer: %s', async (_, ffn, neuronCount, unitSize) => {
  const { model, analysed } = await loadTinyLlama(buildDecoder({ ffn: ({ g }, x) => ffn(g, x), blockCount: 1 }));
  const module = analysed.detected.layout.modules.find(({ kind }) => kind === 'experts')!;
  expect(module.neurons).toMatchObject({ unitCount: neuronCount / unitSize, unitSize });
  const request = { engine: testEngine, model, module, type: 'float32' } as const;
  const [neurons, experts] = [
    await openFusedNeurons(request),
    await openExpertProbe({ ...request, metric: undefined }),
  ];
  const rows = Float32Array.from({ length: 2 * HIDDEN }, (_, at) => Math.sin(at * at));
  const lists = [[2, 0], [2]];
  const [made, expected] = [await neurons.run(rows, lists), await experts.run(rows, lists)];
  for (const [pair, expert] of lists.flat().entries()) {
    const second = await neurons.readSecondLinear(expert);
    for (let channel = 0; channel < HIDDEN; channel += 1) {
      let sum = 0;
      for (let neuron = 0; neuron < neuronCount; neuron += 1)
        sum += made[pair * neuronCount + neuron]! * second[neuron * HIDDEN + channel]!;
      expect(sum).toBeCloseTo(expected.weighted[pair * HIDDEN + channel]!, 4);
    }
  }
  await Promise.all([neurons.release(), experts.release()]);
});
