import type { NodeProto } from 'onnx-buf';
import { floatAttribute, intAttribute, setIntAttribute, textAttribute } from '../onnx/attributes.js';
import { positiveAxis, type Value } from '../onnx/value.js';
import { type Finding, NeedCoarserUnits, type RuleSite, TraceStop, type UnitIds } from './axis-rule.js';
import { broadcastAxes, pointwise } from './elementwise.js';
import { type LoweringContext, unsupported } from './gradient-rule.js';
import { fromOutput, groupHeads, isPresent, perChannel, perHead } from './heads.js';
import { recur } from './linear-recurrence.js';
import { type Family, type Operator, PLAIN } from './operator.js';
import type { UpdateRule } from './update-rule.js';

const headsOf = (node: NodeProto) => ({
  queryHeads: intAttribute(node, 'q_num_heads', 1),
  valueHeads: intAttribute(node, 'kv_num_heads', 1),
});

/** Heads of the output: query heads, or value heads where several share a query. */
const outputHeads = ({ queryHeads, valueHeads }: ReturnType<typeof headsOf>): number =>
  Math.max(queryHeads, valueHeads);

/** Axis of the heads in a state `[B, H, Dk, Dv]`, or `[W, B, H, Dk, Dv]` with a state for each of the last W tokens. */
const stateAxis = (node: NodeProto): number => (intAttribute(node, 'state_window', 0) > 0 ? 2 : 1);

/** Inputs: 0 query, 1 key, 2 value, 3 past state, 4 decay, 5 update rate. Outputs: 0 result, 1 present state. */
const linearAttentionAxes = fromOutput(
  (site, heads) => {
    const { input, output } = site.node;
    const { queryHeads, valueHeads } = headsOf(site.node);
    const keySize = (site.dims(input[0] ?? '').at(-1) ?? 0) / queryHeads;
    const keyHeads = (site.dims(input[1] ?? '').at(-1) ?? 0) / keySize;
    const fewer = new Set([queryHeads, valueHeads, keyHeads].filter((count) => count < heads.length));
    if (fewer.size > 1) throw new TraceStop(`${queryHeads} query, ${keyHeads} key and ${valueHeads} value heads`);
    const { groups, sharing } = groupHeads(heads, [...fewer][0] ?? heads.length);
    const codesOf = (count: number): UnitIds => (count === heads.length ? heads : groups);
    const values = codesOf(valueHeads);
    const rate = input[5];
    const findings: Finding[] = [
      ...perChannel(site, input[0], codesOf(queryHeads)),
      ...perChannel(site, input[1], codesOf(keyHeads)),
      ...perChannel(site, input[2], values),
      ...perChannel(site, input[4], values),
      ...(isPresent(rate) && site.dims(rate).at(-1) === 1 ? [] : perChannel(site, rate, values)),
      ...[input[3], output[1]].flatMap((state) => perHead(site, state, stateAxis(site.node), values)),
    ];
    return { findings, ...sharing };
  },
  ({ node }) => outputHeads(headsOf(node)),
);

/** Units are the heads of the output; a smaller head count is that of the groups, or 1, which remains. */
const updateCounts: UpdateRule = ({ node, unitCount, groupCount, isGrouped }) => {
  const { queryHeads, valueHeads } = headsOf(node);
  const units = outputHeads({ queryHeads, valueHeads });
  const updated = (count: number): number => {
    if (count === units) return unitCount;
    return isGrouped ? groupCount : count;
  };
  setIntAttribute(node, 'q_num_heads', updated(queryHeads));
  setIntAttribute(node, 'kv_num_heads', updated(valueHeads));
};

const linearAttention: Operator = {
  ...PLAIN,
  axis: linearAttentionAxes,
  update: updateCounts,
  tokens: 'recurrence',
  gradient: { lower: lowerRecurrence },
};

/** Norm of consecutive runs of channels, one scale per channel of a run: complete runs are propagated. */
const gatedNormAxes = (site: RuleSite) => {
  const [x = '', scale = ''] = site.node.input;
  const dims = site.dims(x);
  const { axis, unitIds } = site.label;
  if (site.side === 'input' && site.slot === 1) throw new TraceStop('channels are used as the scales of a norm');
  if (axis === positiveAxis(-1, dims.length)) {
    const size = site.dims(scale)[0] ?? 1;
    const runs = unitIds.length / size;
    if (runs === 1) throw new TraceStop('the channels are normalised together, so removing some changes the others');
    if (unitIds.some((code, at) => code !== unitIds[at - (at % size)])) throw new NeedCoarserUnits(runs);
  }
  const others = [x, site.node.input[2] ?? '', site.node.output[0] ?? ''];
  const from = (site.side === 'input' ? site.node.input : site.node.output)[site.slot];
  return { findings: others.filter((value) => value !== from).map((value) => ({ value, label: site.label })) };
};

/** Linear attention and related fused operators of ONNX Runtime. */
export const LINEAR_ATTENTION = {
  'com.microsoft.LinearAttention': linearAttention,
  LinearAttention: linearAttention,
  /** decay = scale softplus(a + bias), rate = sigmoid(b). Inputs: 0 a, 1 bias, 2 scale, 3 b; outputs: 0 decay, 1 rate. */
  'com.microsoft.LinearAttentionGate': {
    ...PLAIN,
    axis: broadcastAxes,
    gradient: {
      lower: (c) => {
        const raw = c.o.add(c.input(0), c.input(1));
        const decay = c.o.mul(c.o.softplus(raw), c.input(2));
        return [decay, c.has(3) ? c.o.sigmoid(c.input(3)) : undefined];
      },
    },
    parameters: { 1: 'vector', 2: 'vector' },
  },
  /** y = RMS norm(x) scale act(gate), run by run. Inputs: 0 x, 1 scale, 2 gate. */
  'com.microsoft.GatedRMSNorm': {
    ...PLAIN,
    axis: gatedNormAxes,
    gradient: { lower: lowerGatedNorm },
    parameters: { 1: 'vector' },
  },
  /** y = a + b gate, the gate one number a token. */
  'com.microsoft.GatedAdd': pointwise({ lower: (c) => [c.o.add(c.input(0), c.o.mul(c.input(1), c.input(2)))] }),
} as const satisfies Family;

function lowerRecurrence(c: LoweringContext): (Value | undefined)[] {
  const { node, o } = c;
  const rule = textAttribute(node, 'update_rule') || 'gated_delta';
  if (!['linear', 'gated', 'delta', 'gated_delta'].includes(rule)) throw unsupported(node, `its rule is "${rule}".`);
  const { queryHeads, valueHeads } = headsOf(node);
  const keySize = (c.input(0).dims.at(-1) ?? 1) / queryHeads;
  if (intAttribute(node, 'state_window', 0) > 0) throw unsupported(node, 'it returns the states of several tokens.');
  return [
    recur(o, {
      query: c.input(0),
      key: c.input(1),
      value: c.input(2),
      decay: rule.startsWith('gated') ? c.input(4) : undefined,
      rate: rule.endsWith('delta') ? c.input(5) : undefined,
      state: c.has(3) ? c.input(3) : undefined,
      keySize,
      valueSize: (c.input(2).dims.at(-1) ?? 1) / valueHeads,
      headCount: outputHeads({ queryHeads, valueHeads }),
      scale: floatAttribute(node, 'scale', 0) || 1 / Math.sqrt(keySize),
    }),
  ];
}

function lowerGatedNorm(c: LoweringContext): Value[] {
  const { o, node } = c;
  const activation = textAttribute(node, 'activation') || 'silu';
  if (!['silu', 'swish', 'sigmoid'].includes(activation)) throw unsupported(node, `its activation is "${activation}".`);
  const [x, scale, gate] = [c.input(0), c.input(1), c.input(2)];
  const size = scale.dims[0] ?? 1;
  const runs = o.reshape(x, [...x.dims.slice(0, -1), (x.dims.at(-1) ?? 1) / size, size]);
  const attributes = { axis: -1, epsilon: { float: floatAttribute(node, 'epsilon', 1e-5) } };
  const normed = o.reshape(
    o.emitter.node('SimplifiedLayerNormalization', [runs, scale], { ...runs, attributes }),
    x.dims,
  );
  const share = o.sigmoid(gate);
  return [o.mul(normed, activation === 'sigmoid' ? share : o.mul(gate, share))];
}
