/** Prunes one FFN with the library's modules alone, and the entire model from the same parts. `npx tsx examples/14-modules-by-hand.ts` */
import { readFile } from 'node:fs/promises';
import { createNodeEngine } from 'fang-prune';
import * as core from 'fang-prune/core';

const place = 'examples/models/tiny-llama';
const readJson = async (name: string) => JSON.parse(await readFile(`${place}/${name}`, 'utf8')) as unknown;

// The model in memory, and what it is measured on.
const bytes = new Uint8Array(await readFile(`${place}/onnx/model.onnx`));
const folder = core.createMemoryFolder('tiny-llama', new Map([['model.onnx', bytes]]));
const dense = await core.loadModel((await folder.open('model.onnx'))!, folder);
const engine = await createNodeEngine();
const analysed = await core.analyseModel(dense, engine);
const { detected, facts, tokenInput } = analysed;
const tokenizer = core.createTokenizer(await readJson('tokenizer.json'), await readJson('tokenizer_config.json'));
const shape = { windowCount: 4, windowLength: 64, vocabularySize: detected.layout.vocabularySize };
const { windows } = await core.createCalibrationSet({ tokenizer, ...shape });

// Activations: the Gram matrix of what the first FFN's output projection reads.
const module = detected.layout.modules.find(({ kind }) => kind === 'ffn')!;
const channels = Int32Array.from({ length: module.unitCount }, (_, channel) => channel);
const batches = core.makeBatches(windows, windows.length);
const { cuts } = detected.partition;
const states = core.createMemoryStore();
const runner = core.createBlockRunner({ engine, model: dense, cuts, facts, tokenInput, batches, states });
while (runner.segment < module.segment) await runner.advance();
const target = { linear: module.output, needs: 'gram', groups: [channels] } as const;
const [[statistics]] = (await core.collectStatistics(runner, { targets: [target] })) as [[core.ChannelStatistics]];
const meter = core.createStatisticsMeter({ ...target, needs: 'moments' }, 'again');
await core.runMeters(runner, [meter]);
await runner.dispose();
console.log(`${statistics.tokenCount} tokens of ${statistics.mean.length} neurons, ${meter.finish().length} group`);

// Functional groups: contexts of tokens (here points of one's own), and which neurons each of them uses.
const random = core.createRandom(7);
const points = Float64Array.from({ length: 600 }, () => random());
const pca = await core.fitPca(Float64Array.of(0.5, 0.5), Float64Array.of(1, 0.2, 0.2, 1), { componentCount: 2 });
const projected = core.projectPoints(pca, points);
const contexts = core.clusterContexts({ points: projected, dimensionCount: 2, contextCount: 3 });
const contextOfToken = core.assignContexts(projected, contexts.centers, 2);
const affinity = Float64Array.from({ length: 3 * module.unitCount }, () => random());
const { functions, shared } = core.groupNeurons({ ...core.GROUPING_DEFAULTS, affinity, contextCount: 3 });
console.log(`groups of ${functions.map((group) => group.length).join(', ')} neurons, ${shared.length} shared`);

// Token weights: how much the tokens of each context count for a group.
const counts = [0, 1, 2].map((context) => contextOfToken.filter((own) => own === context).length);
const weights = core.weightContexts({ centers: contexts.centers, counts, variant: 'softmax' });
const weighed = core.weightTokens(weights, 0, contextOfToken);
console.log(
  `token weights of group 0: mean ${(weighed.reduce((sum, one) => sum + one, 0) / weighed.length).toFixed(2)}`,
);

// Importance: OBC's own scores and order, and in a metric; an adapter also repairs.
const weight = await core.readLinearWeight(dense, module.output);
const problem = { weight, statistics, unitOfChannel: channels, unitCount: module.unitCount, random };
const hessian = await core.factoriseHessian(problem, { dampening: 0.1 });
const scores = await core.scoreByObc(problem, hessian);
const { costs } = await core.orderByObc(problem, hessian, 64);
const identity = Float64Array.from({ length: weight.shape[0]! ** 2 }, (_, at) =>
  at % (weight.shape[0]! + 1) === 0 ? 1 : 0,
);
const scoredWeight = (await core.weightInMetric(weight, identity)).weight;
const obc = await core.createAdapter('obc').prepare({ ...problem, scoredWeight });

// Allocation: how many neurons leave, by one rule for all modules or by one threshold.
const { block, kind, parameterCount, unitCount } = module;
const parametersPerStep = parameterCount / unitCount;
const measures = { block, kind, parameterCount, unitCount, stepCount: unitCount, parametersPerStep };
const budget = { sparsity: 0.3, modules: [{ ...measures, minimumKept: 1, multiple: 1 }], evenHeads: true };
const [removeCount = 0] = core.allocateSteps(core.ALLOCATIONS.uniform, budget);
const [byCost] = core.allocateByThreshold([{ costs, parameterCount, parametersPerStep }], 0.3);
const [byScore] = core.allocateStandardised([{ scores, parametersPerStep }], 0.3);
const [even] = core.spreadByMeasure(budget, { measureOf: () => 1 });
console.log(`${removeCount} neurons leave; by threshold ${byCost}, by score ${byScore}, evenly ${even!.toFixed(2)}`);

// Removal: choose, repair what stays, cut the graph.
const { keep } = core.chooseChannels({ unitCount, groups: [{ units: channels, scores: obc.scores }], removeCount });
const heads = core.chooseHeads({
  scores: [1, 2, 3, 4],
  groupOfHead: [0, 0, 1, 1],
  groupCount: 2,
  headUnit: 'group',
  removeCount: 1,
});
const repaired = await obc.compensate(keep);
const pruned = core.copyModel(dense);
core.removeUnits(pruned, { detected, facts, module: module.index, keep });
const store = core.storeInMemory;
const changed = [
  await core.writeLinearWeight(pruned, module.output, { values: repaired.weight!, store }),
  await core.addLinearBias(pruned, module.output, new Float64Array(module.output.outputCount).fill(0.01)),
];
core.tidyModel(pruned);
console.log(`${keep.length} of ${unitCount} neurons stay, and heads ${[...heads.keep].join(' and ')}`);

// The same change on a copy of the dense model, and its masked original.
const change = { modules: [{ module, keep }], changed: new Map(changed) };
const applied = core.applyChange(dense, analysed, change);
const masked = await core.maskModel(dense, change, { analysed, store });
const written = new Map<string, Uint8Array>();
for (const [name, model] of Object.entries({ pruned, applied, masked }))
  await core.saveModel(model, core.createMemoryFolder(name, written), `${name}.onnx`);
const sizes = [...written].map(([name, file]) => `${name} ${(file.byteLength / 1e6).toFixed(1)} MB`);
console.log(sizes.join(', '));

// All of it at once: measured once, pruned to two sparsities.
const createStore = () => core.createMemoryStore();
const options = core.resolveOptions({ sparsity: 0.2, method: 'flap', modules: 'ffn' });
const job = { model: dense, analysed, engine, windows, options, store, createStore };
const measured = await core.measureDense(job);
for (const sparsity of [0.2, 0.4]) {
  const { modules } = await core.pruneMeasured(measured, { sparsity });
  console.log(`${sparsity}: ${modules.map((one) => one.keep.length).join(' ')}`);
}
await measured.dispose();
