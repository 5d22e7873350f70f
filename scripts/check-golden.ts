/**
 * Checks every pure stage against reference numbers of an independent float64 implementation. Each stage starts from the
 * reference of the previous one. Hidden states of partly pruned models, which the reference lacks, are computed here by a small
 * float64 Llama.
 *
 * Usage: npx tsx scripts/check-golden.ts GOLDEN_FOLDER MODEL_FOLDER [FIXTURE_FOLDER]
 *
 * With FIXTURE_FOLDER (test/fixtures) it also writes the small extracts that the tests use, golden-*.json.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ndarray from 'ndarray';
import { adaptive } from '../src/allocation/adaptive.js';
import type { ChannelStatistics } from '../src/compensation/adapter.js';
import { createAdapter } from '../src/compensation/methods.js';
import { clusterContexts } from '../src/grouping/cluster-contexts.js';
import { groupNeurons } from '../src/grouping/group-neurons.js';
import { assignContexts } from '../src/grouping/refine-centers.js';
import { weightContexts, weightTokens } from '../src/grouping/weight-contexts.js';
import { multiplyTransposed } from '../src/linalg/multiply-transposed.js';
import { fitPca, type Pca, projectPoints } from '../src/linalg/pca.js';
import { createRandom } from '../src/linalg/random.js';
import { chooseChannels } from '../src/removal/choose-channels.js';

interface Golden {
  readonly block_change: readonly number[];
  readonly nll: { readonly dense: { readonly calibration: number } };
  readonly groups: readonly { readonly shared: number[]; readonly functions: number[][] }[];
  readonly 'allocation_reference_rule_0.3': readonly number[];
  readonly runs: Readonly<Record<string, { readonly keep: number[][]; readonly block_sparsity: number[] }>>;
}

const [goldenFolder, modelFolder, fixtureFolder] = process.argv.slice(2);
if (goldenFolder === undefined || modelFolder === undefined) {
  throw new Error('usage: npx tsx scripts/check-golden.ts GOLDEN_FOLDER MODEL_FOLDER [FIXTURE_FOLDER]');
}
const golden: Golden = JSON.parse(readFileSync(join(goldenFolder, 'tiny-llama.json'), 'utf8'));
const reference = readSafetensors(join(goldenFolder, 'tiny-llama.safetensors'));
const model = readSafetensors(join(modelFolder, 'model.safetensors'));
const [C, F, HEADS, KV_HEADS, D, BLOCKS, K] = [192, 512, 8, 4, 24, 6, 7];
const EPSILON = 1e-5;
const tokens = reference('calibration_tokens');
const WINDOW = 128;
const T = tokens.length;

/** A pruned `down`: kept neurons, `[C, kept]` weight, bias. */
interface PrunedDown {
  readonly keep: readonly number[];
  readonly weight: Float64Array;
  readonly bias: Float64Array | undefined;
}

await checkDense();
for (const run of Object.keys(golden.runs)) await checkRun(run);
if (fixtureFolder !== undefined) writeFixtures(fixtureFolder);

async function checkDense(): Promise<void> {
  console.log('dense model');
  let hidden = embed();
  const change: number[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    const seen = runBlock(block, hidden);
    change.push(blockChange(hidden, seen.output));
    const uniform = new Float64Array(T).fill(1);
    const ffn = momentsOf(seen.h, F, uniform);
    const attention = momentsOf(seen.attention, C, uniform);
    const near = (name: string, values: Float64Array) =>
      difference(values, slice(reference(name), block, values.length));
    const normed = momentsOf(seen.normed, C, uniform);
    const pca = await fitPca(normed.mean, covarianceOf(seen.normed, normed.mean), { componentCount: 64 });
    const contexts = assignContexts(projectPoints(goldenPca(block), seen.normed), goldenCenters(block), 64);
    const moved = countDifferent(contexts, slice(reference('context_of_token'), block, T));
    const affinity = slice(reference('affinity'), block, K * F);
    const groups = groupNeurons({ affinity, contextCount: K });
    const exact = groupNeurons({ affinity, contextCount: K, assignment: 'exact' });
    const wanted = golden.groups[block]!;
    const wrong =
      countDifferent(groups.shared, wanted.shared) +
      groups.functions.reduce((sum, group, k) => sum + countDifferent(group, wanted.functions[k]!), 0);
    console.log(
      `  block ${block}: moments ffn ${show(near('ffn_hidden_mean', ffn.mean), near('ffn_hidden_variance', ffn.variance))}` +
        `, attention ${show(near('attention_output_mean', attention.mean), near('attention_output_variance', attention.variance))}` +
        `; pca ${show(near('pca_mean', pca.mean), near('pca_components', pca.components))}; contexts moved ${moved} of ${T}` +
        `; neurons grouped otherwise ${wrong} of ${F}; affinity kept: greedy ${kept(affinity, groups.functions)}` +
        `, exact ${kept(affinity, exact.functions)}`,
    );
    const points = projectPoints(goldenPca(block), seen.normed);
    const plain = clusterContexts({ points, dimensionCount: 64, clusterBalance: Number.POSITIVE_INFINITY });
    const balanced = clusterContexts({ points, dimensionCount: 64 });
    console.log(
      `           within-cluster squares: reference ${inertia(points, goldenCenters(block)).toFixed(0)}, plain ` +
        `${inertia(points, plain.centers).toFixed(0)} sizes ${plain.counts.join(' ')}, balanced ` +
        `${inertia(points, balanced.centers).toFixed(0)} sizes ${balanced.counts.join(' ')}`,
    );
    hidden = seen.output;
  }
  const shape = { kind: 'ffn', parameterCount: 1, unitCount: 1e6, stepCount: 1e6, parametersPerStep: 1e-6 } as const;
  const modules = golden.block_change.map((blockChange, block) => ({
    ...shape,
    minimumKept: 1,
    multiple: 1,
    block,
    blockChange,
  }));
  const allocated = adaptive.allocate({ sparsity: 0.3, modules, evenHeads: false });
  console.log(`  block change ${show(difference(change, golden.block_change))}`);
  console.log(`  allocation ${show(difference(allocated, golden['allocation_reference_rule_0.3']))}`);
  console.log(`  nll ${meanLoss(hidden)} (reference ${golden.nll.dense.calibration})`);
}

async function checkRun(run: string): Promise<void> {
  console.log(run);
  const { keep, block_sparsity } = golden.runs[run]!;
  let hidden = embed();
  for (let block = 0; block < BLOCKS; block++) {
    const wantedKeep = keep[block]!;
    const wanted: PrunedDown = {
      keep: wantedKeep,
      weight: reference(`${run}.block${block}.down`),
      bias: run.startsWith('f') ? reference(`${run}.block${block}.down_bias`) : undefined,
    };
    const seen = runBlock(block, hidden, wanted);
    const removeCount = Math.round(block_sparsity[block]! * F);
    console.log(`  block ${block}: ${await comparePruning({ run, block, removeCount, wanted, ...seen })}`);
    hidden = seen.output;
  }
  console.log(`  nll ${meanLoss(hidden)}`);
}

async function comparePruning(problem: {
  run: string;
  block: number;
  removeCount: number;
  wanted: PrunedDown;
  h: Float64Array;
  normed: Float64Array;
}): Promise<string> {
  const { run, block, removeCount, wanted, h, normed } = problem;
  const method = run.startsWith('f') ? 'flap' : 'obc';
  const down = model(`model.layers.${block}.mlp.down_proj.weight`);
  const every = Array.from({ length: F }, (_, j) => j);
  const groups = run.endsWith('uniform') ? [every] : golden.groups[block]!.functions;
  const weights = run.endsWith('uniform') ? [new Float64Array(T).fill(1)] : groupWeights(block, h, normed);
  const adapter = createAdapter(method);
  const scored = await Promise.all(
    groups.map(async (units, k) => {
      const columns = ndarray(Float32Array.from(down), [C, F]);
      const picked = new Float32Array(C * units.length);
      for (let row = 0; row < C; row++)
        for (const [i, j] of units.entries()) picked[row * units.length + i] = columns.get(row, j);
      const statistics = statisticsOf(pickChannels(h, units), units.length, weights[k]!);
      const prepared = await adapter.prepare({
        weight: ndarray(picked, [C, units.length]),
        statistics,
        unitOfChannel: Int32Array.from(units, (_, i) => i),
        unitCount: units.length,
        random: createRandom(0),
      });
      return { units, picked, prepared, scores: prepared.scores };
    }),
  );
  const choice = chooseChannels({ unitCount: F, groups: scored, removeCount });
  const swapped = [...choice.keep].filter((j) => !wanted.keep.includes(j));
  // Repairs are compared on the reference's own choice, so that a tie does not spoil them.
  const bias = new Float64Array(C);
  const weight = new Float64Array(C * wanted.keep.length);
  const positionOf = new Map(wanted.keep.map((j, position) => [j, position]));
  for (let row = 0; row < C; row++) {
    for (const [position, j] of wanted.keep.entries()) weight[row * wanted.keep.length + position] = down[row * F + j]!;
  }
  for (const { units, prepared } of scored) {
    const local = Int32Array.from(units.keys()).filter((i) => positionOf.has(units[i]!));
    const repaired = await prepared.compensate(local);
    for (const [row, value] of (repaired.bias ?? []).entries()) bias[row]! += value;
    if (repaired.weight === undefined) continue;
    for (let row = 0; row < C; row++) {
      local.forEach((i, at) => {
        weight[row * wanted.keep.length + positionOf.get(units[i]!)!] = repaired.weight![row * local.length + at]!;
      });
    }
  }
  return (
    `kept ${choice.keep.length} (reference ${wanted.keep.length}), other neurons ${swapped.length}; weight ` +
    `${show(difference(weight, wanted.weight))}${wanted.bias ? `, bias ${show(difference(bias, wanted.bias))}` : ''}`
  );
}

function groupWeights(block: number, h: Float64Array, normed: Float64Array): Float64Array[] {
  const contexts = assignContexts(projectPoints(goldenPca(block), normed), goldenCenters(block), 64);
  const counts = new Int32Array(K);
  const centers = new Float64Array(K * F);
  contexts.forEach((context, token) => {
    counts[context]!++;
    for (let j = 0; j < F; j++) centers[context * F + j]! += h[token * F + j]!;
  });
  for (let k = 0; k < K; k++) for (let j = 0; j < F; j++) centers[k * F + j]! /= counts[k]!;
  const table = weightContexts({ centers, counts, temperature: { relative: 0.5 } });
  return Array.from({ length: K }, (_, group) => weightTokens(table, group, contexts));
}

/** Extracts of the reference: small enough to commit, enough to pin the formulas. */
function writeFixtures(folder: string): void {
  const write = (name: string, fixture: object) => {
    const madeBy = 'npx tsx scripts/check-golden.ts GOLDEN_FOLDER MODEL_FOLDER test/fixtures';
    writeFileSync(join(folder, `golden-${name}.json`), `${JSON.stringify({ madeBy, ...fixture })}\n`);
  };
  write('allocation', { blockChange: golden.block_change, sparsities: golden['allocation_reference_rule_0.3'] });
  write('groups', { affinity: [...slice(reference('affinity'), 1, K * F)], ...golden.groups[1] });

  const rows = [0, 1, 2, 3];
  const down = model('model.layers.0.mlp.down_proj.weight');
  const squares = (weight: Float64Array, j: number) =>
    Array.from({ length: C }, (_, row) => weight[row * F + j]! ** 2).reduce((sum, square) => sum + square, 0);
  write('flap', {
    mean: [...slice(reference('ffn_hidden_mean'), 0, F)],
    variance: [...slice(reference('ffn_hidden_variance'), 0, F)],
    columnNorms: Array.from({ length: F }, (_, j) => Math.sqrt(squares(down, j))),
    rows: rows.map((row) => [...down.slice(row * F, (row + 1) * F)]),
    keep: golden.runs['flap-uniform']!.keep[0],
    bias: [...reference('flap-uniform.block0.down_bias').slice(0, rows.length)],
  });

  const { h, normed } = runBlock(0, embed());
  const units = golden.groups[0]!.functions[0]!;
  const { gram, mean, variance } = statisticsOf(pickChannels(h, units), units.length, groupWeights(0, h, normed)[0]!);
  const keptInBlock = golden.runs['o-fang']!.keep[0]!;
  const local = [...units.keys()].filter((i) => keptInBlock.includes(units[i]!));
  const repaired = reference('o-fang.block0.down');
  write('obc', {
    tokenCount: T,
    gramLowerTriangle: units.flatMap((_, i) => [...gram!.slice(i * units.length, i * units.length + i + 1)]),
    mean: [...mean],
    variance: [...variance],
    columnNorms: units.map((j) => Math.sqrt(squares(down, j))),
    rows: rows.map((row) => units.map((j) => down[row * F + j]!)),
    keep: local,
    repaired: rows.map((row) => local.map((i) => repaired[row * keptInBlock.length + keptInBlock.indexOf(units[i]!)]!)),
  });
}

// --- a float64 Llama ---------------------------------------------------------------------------------------------

function embed(): Float64Array {
  const table = model('model.embed_tokens.weight');
  const hidden = new Float64Array(T * C);
  for (const [token, id] of tokens.entries()) hidden.set(table.subarray(id * C, (id + 1) * C), token * C);
  return hidden;
}

function runBlock(block: number, input: Float64Array, pruned?: PrunedDown) {
  const weight = (name: string) => model(`model.layers.${block}.${name}.weight`);
  const linear = (x: Float64Array, name: string, inner: number) => {
    const w = weight(name);
    return multiplyTransposed(x, w, { rows: T, columns: w.length / inner, inner });
  };
  const x = normalise(input, weight('input_layernorm'));
  const attention = attend(
    linear(x, 'self_attn.q_proj', C),
    linear(x, 'self_attn.k_proj', C),
    linear(x, 'self_attn.v_proj', C),
  );
  const middle = add(input, linear(attention, 'self_attn.o_proj', HEADS * D));
  const normed = normalise(middle, weight('post_attention_layernorm'));
  const up = linear(normed, 'mlp.up_proj', C);
  const h = linear(normed, 'mlp.gate_proj', C).map((gate, at) => (gate / (1 + Math.exp(-gate))) * up[at]!);
  if (pruned === undefined) return { attention, normed, h, output: add(middle, linear(h, 'mlp.down_proj', F)) };
  const kept = pruned.keep.length;
  const y = multiplyTransposed(pickChannels(h, pruned.keep), pruned.weight, { rows: T, columns: C, inner: kept });
  return { attention, normed, h, output: add(middle, y).map((value, at) => value + (pruned.bias?.[at % C] ?? 0)) };
}

function normalise(x: Float64Array, scale: Float64Array): Float64Array {
  const result = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += C) {
    let squares = 0;
    for (let i = 0; i < C; i++) squares += x[start + i]! ** 2;
    const factor = 1 / Math.sqrt(squares / C + EPSILON);
    for (let i = 0; i < C; i++) result[start + i] = x[start + i]! * factor * scale[i]!;
  }
  return result;
}

function attend(query: Float64Array, key: Float64Array, value: Float64Array): Float64Array {
  rotate(query, HEADS);
  rotate(key, KV_HEADS);
  const result = new Float64Array(T * HEADS * D);
  for (let token = 0; token < T; token++) {
    const first = token - (token % WINDOW);
    for (let head = 0; head < HEADS; head++) {
      const kvHead = Math.floor((head * KV_HEADS) / HEADS);
      const at = (position: number) => (position * KV_HEADS + kvHead) * D;
      const out = (token * HEADS + head) * D;
      const scores: number[] = [];
      for (let position = first; position <= token; position++) {
        let score = 0;
        for (let i = 0; i < D; i++) score += query[out + i]! * key[at(position) + i]!;
        scores.push(score / Math.sqrt(D));
      }
      const highest = Math.max(...scores);
      const powers = scores.map((score) => Math.exp(score - highest));
      const sum = powers.reduce((a, b) => a + b, 0);
      powers.forEach((power, offset) => {
        for (let i = 0; i < D; i++) result[out + i]! += (power / sum) * value[at(first + offset) + i]!;
      });
    }
  }
  return result;
}

function rotate(x: Float64Array, heads: number): void {
  for (let token = 0; token < T; token++) {
    for (let head = 0; head < heads; head++) {
      const at = (token * heads + head) * D;
      for (let i = 0; i < D / 2; i++) {
        const angle = (token % WINDOW) * 10000 ** ((-2 * i) / D);
        const [a, b] = [x[at + i]!, x[at + i + D / 2]!];
        x[at + i] = a * Math.cos(angle) - b * Math.sin(angle);
        x[at + i + D / 2] = b * Math.cos(angle) + a * Math.sin(angle);
      }
    }
  }
}

function meanLoss(hidden: Float64Array): number {
  const table = model('model.embed_tokens.weight');
  const vocabulary = table.length / C;
  const shape = { rows: T, columns: vocabulary, inner: C };
  const logits = multiplyTransposed(normalise(hidden, model('model.norm.weight')), table, shape);
  let loss = 0;
  let count = 0;
  for (let token = 0; token + 1 < T; token++) {
    if (token % WINDOW === WINDOW - 1) continue;
    const row = logits.subarray(token * vocabulary, (token + 1) * vocabulary);
    const highest = row.reduce((a, b) => Math.max(a, b));
    loss +=
      highest + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - highest), 0)) - row[tokens[token + 1]!]!;
    count++;
  }
  return loss / count;
}

// --- statistics and comparison -----------------------------------------------------------------------------------

function momentsOf(x: Float64Array, channels: number, weights: Float64Array) {
  const mean = new Float64Array(channels);
  const variance = new Float64Array(channels);
  for (let token = 0; token < T; token++) {
    for (let j = 0; j < channels; j++) mean[j]! += (weights[token]! * x[token * channels + j]!) / T;
  }
  for (let token = 0; token < T; token++) {
    for (let j = 0; j < channels; j++)
      variance[j]! += (weights[token]! * (x[token * channels + j]! - mean[j]!) ** 2) / T;
  }
  return { mean, variance };
}

function statisticsOf(x: Float64Array, channels: number, weights: Float64Array): ChannelStatistics {
  const scaled = new Float64Array(channels * T);
  for (let token = 0; token < T; token++) {
    for (let j = 0; j < channels; j++)
      scaled[j * T + token] = x[token * channels + j]! * Math.sqrt(weights[token]! / T);
  }
  const gram = multiplyTransposed(scaled, scaled, { rows: channels, columns: channels, inner: T });
  return { tokenCount: T, ...momentsOf(x, channels, weights), gram };
}

function covarianceOf(x: Float64Array, mean: Float64Array): Float64Array {
  const centred = new Float64Array(C * T);
  for (let token = 0; token < T; token++)
    for (let i = 0; i < C; i++) centred[i * T + token] = (x[token * C + i]! - mean[i]!) / Math.sqrt(T);
  return multiplyTransposed(centred, centred, { rows: C, columns: C, inner: T });
}

function blockChange(before: Float64Array, after: Float64Array): number {
  let sum = 0;
  for (let start = 0; start < before.length; start += C) {
    let [dot, a, b] = [0, 0, 0];
    for (let i = start; i < start + C; i++) {
      dot += before[i]! * after[i]!;
      a += before[i]! ** 2;
      b += after[i]! ** 2;
    }
    sum += dot / Math.sqrt(a * b);
  }
  return 1 - sum / T;
}

function pickChannels(x: Float64Array, channels: readonly number[]): Float64Array {
  const picked = new Float64Array(T * channels.length);
  for (let token = 0; token < T; token++)
    for (const [i, j] of channels.entries()) picked[token * channels.length + i] = x[token * F + j]!;
  return picked;
}

function goldenPca(block: number): Pca {
  const mean = slice(reference('pca_mean'), block, C);
  const components = slice(reference('pca_components'), block, C * 64);
  return { size: C, componentCount: 64, mean, components, variances: new Float64Array(64) };
}

function goldenCenters(block: number): Float64Array {
  return slice(reference('context_centers'), block, K * 64);
}

function inertia(points: Float64Array, centers: Float64Array): number {
  const nearest = assignContexts(points, centers, 64);
  return points.reduce(
    (sum, value, at) => sum + (value - centers[nearest[Math.floor(at / 64)]! * 64 + (at % 64)]!) ** 2,
    0,
  );
}

function kept(affinity: Float64Array, functions: readonly Int32Array[]): string {
  return functions
    .reduce((sum, group, k) => sum + group.reduce((s, j) => s + affinity[k * F + j]!, 0), 0)
    .toExponential(5);
}

function slice(values: Float64Array, index: number, length: number): Float64Array {
  return values.slice(index * length, (index + 1) * length);
}

function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, at) => value + b[at]!);
}

function countDifferent(one: ArrayLike<number>, other: ArrayLike<number>): number {
  let count = Math.abs(one.length - other.length);
  for (let i = 0; i < Math.min(one.length, other.length); i++) if (one[i] !== other[i]) count++;
  return count;
}

/** Largest difference, relative to the largest reference value. */
function difference(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let [most, scale] = [found.length === wanted.length ? 0 : Number.NaN, 0];
  for (let i = 0; i < wanted.length; i++) {
    most = Math.max(most, Math.abs(found[i]! - wanted[i]!));
    scale = Math.max(scale, Math.abs(wanted[i]!));
  }
  return most / scale;
}

function show(...differences: number[]): string {
  return differences.map((value) => value.toExponential(1)).join(' / ');
}

function readSafetensors(path: string): (name: string) => Float64Array {
  const bytes = readFileSync(path);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerLength).toString('utf8'));
  const arrays = { F64: Float64Array, F32: Float32Array, I32: Int32Array };
  return (name) => {
    const entry = header[name];
    if (entry === undefined) throw new Error(`${path} holds no ${name}`);
    const [start, end] = entry.data_offsets;
    const raw = Uint8Array.from(bytes.subarray(8 + headerLength + start, 8 + headerLength + end));
    return Float64Array.from(new arrays[entry.dtype as keyof typeof arrays](raw.buffer));
  };
}
