import type { PrunableModule } from '../../src/architecture/layout.js';
import { copyModel } from '../../src/onnx/edit-weights.js';
import { removeUnits } from '../../src/removal/remove-units.js';
import { channelsOf } from '../../src/removal/score-module.js';
import { type Batch, type BlockRunner, createBlockRunner, makeBatches } from '../../src/runtime/block-runner.js';
import type { Engine, Tensors } from '../../src/runtime/engine.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { loadShortLlama } from '../support/short-llama.js';
import { type Loaded, relativeGap, someWindows } from '../support/tiny-llama.js';

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadShortLlama();
});

/** An engine that records the inputs of its compiled graphs. */
function recordingEngine(): { engine: Engine; fed: string[][] } {
  const fed: string[][] = [];
  const engine: Engine = {
    ...testEngine,
    async load(model, options) {
      const session = await testEngine.load(model, options);
      fed.push(session.inputs.map(({ name }) => name));
      return session;
    },
  };
  return { engine, fed };
}

function startRunner(model: Loaded['model'], engine: Engine): BlockRunner {
  const { detected, facts, tokenInput } = loaded.analysed;
  return createBlockRunner({
    engine,
    model,
    cuts: detected.partition.cuts,
    facts,
    tokenInput,
    batches: makeBatches(someWindows(3, 20), 2),
    states: createMemoryStore(),
  });
}

async function stateValues(runner: BlockRunner): Promise<number[]> {
  const states = await Promise.all(runner.batches.map(({ index }) => runner.states.get(index)));
  return states.flatMap(({ data }) => Array.from(data as Float32Array));
}

describe.each(['attention', 'ffn'] as const)('held channels of %s', (kind) => {
  let module: PrunableModule;
  beforeAll(() => {
    module = loaded.analysed.detected.layout.modules.find((one) => one.kind === kind)!;
  });

  /** Hidden states after the module, without half of its units. */
  async function advancePruned(hold: boolean) {
    const model = copyModel(loaded.model);
    const { engine, fed } = recordingEngine();
    const runner = startRunner(model, engine);
    while (runner.segment < module.segment) await runner.advance();
    const { input } = module.output;
    if (hold) runner.hold([input]);
    const seen: unknown[] = [];
    for await (const { values } of runner.observe({ fetches: [input] })) seen.push(values[input]);
    const keep = Int32Array.from({ length: module.unitCount / 2 }, (_, at) => 2 * at);
    const { detected, facts } = loaded.analysed;
    removeUnits(model, { detected, facts, module: module.index, keep });
    if (hold) runner.narrowHeld(input, channelsOf(module, keep));
    await runner.advance();
    expect(seen).toHaveLength(2);
    return { states: await stateValues(runner), inputs: fed.at(-1)! };
  }

  it('lead to the same states as running the narrowed model from the start', async () => {
    const [held, whole] = [await advancePruned(true), await advancePruned(false)];
    expect(relativeGap(held.states, whole.states)).toBeLessThan(1e-6);
    expect(held.inputs).toContain(`${module.output.input}/whole`);
    expect(whole.inputs).not.toContain(module.output.input);
  });

  it('are forgotten in the next stage, and when narrowed to no channels', async () => {
    const { engine, fed } = recordingEngine();
    const runner = startRunner(loaded.model, engine);
    while (runner.segment < module.segment) await runner.advance();
    const { input } = module.output;
    const observe = async () => {
      for await (const _ of runner.observe({ fetches: [input] }));
      return fed.at(-1)!.includes(input);
    };
    runner.hold([input]);
    expect(await observe()).toBe(false);
    expect(await observe()).toBe(true);
    runner.narrowHeld(input, new Int32Array());
    expect(await observe()).toBe(false);
    await runner.advance();
    await runner.advance();
    expect(fed.at(-1)).not.toContain(input);
  });

  it('run in one graph with the next observation', async () => {
    const states = await Promise.all(
      (['advance', 'pass'] as const).map(async (step) => {
        const { engine, fed } = recordingEngine();
        const model = copyModel(loaded.model);
        const runner = startRunner(model, engine);
        while (runner.segment < module.segment) await runner[step]();
        const { input } = module.output;
        runner.hold([input]);
        for await (const _ of runner.observe({ fetches: [], reads: [input] }));
        const keep = Int32Array.from({ length: module.unitCount / 2 }, (_, at) => 2 * at);
        const { detected, facts } = loaded.analysed;
        removeUnits(model, { detected, facts, module: module.index, keep });
        runner.narrowHeld(input, channelsOf(module, keep));
        const before = fed.length;
        await runner[step]();
        await runner[step]();
        if (step === 'pass') for await (const _ of runner.observe({ fetches: [] }));
        return { sessions: fed.length - before, at: runner.segment, values: await stateValues(runner) };
      }),
    );
    expect(states.map(({ sessions }) => sessions)).toEqual([2, 1]);
    expect(states[1]!.at).toBe(states[0]!.at);
    expect(relativeGap(states[1]!.values, states[0]!.values)).toBeLessThan(1e-6);
  });
});

it('runs passed stages before a third one waits with them', async () => {
  const { engine, fed } = recordingEngine();
  const runner = startRunner(loaded.model, engine);
  const sessions: number[] = [];
  for (let at = 0; at < 4; at += 1) {
    await runner.pass();
    sessions.push(fed.length);
  }
  expect(sessions).toEqual([0, 0, 1, 1]);
  expect(runner.segment).toBe(4);
});

it('returns values observed in passed stages when they run, batch by batch', async () => {
  const { cuts } = loaded.analysed.detected.partition;
  const { engine } = recordingEngine();
  const runner = startRunner(loaded.model, engine);
  await runner.advance();
  const seen: unknown[] = [];
  const observing = (value: string) => ({
    fetches: [value],
    onBatch({ index }: Batch, values: Tensors) {
      seen.push([value, index, values[value]!.data.slice()]);
    },
  });
  await runner.pass(observing(cuts[1]!));
  await runner.pass(observing(cuts[2]!));
  expect(seen).toEqual([]);
  for await (const { values } of runner.observe({ fetches: [cuts[3]!] }))
    seen.push(Object.keys(values).includes(cuts[3]!));
  const plain = startRunner(loaded.model, engine);
  const expected: unknown[] = [];
  await plain.advance();
  for (const at of [1, 2]) {
    await plain.advance();
    for (const { index } of plain.batches)
      expected.push([cuts[at], index, (await plain.states.get(index)).data.slice()]);
  }
  const [one, two, three, four] = expected;
  expect(seen).toEqual([one, three, true, two, four, true]);
});
