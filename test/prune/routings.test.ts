import { makeValueInfo } from '../../src/onnx/build.js';
import type { MixtureRouting } from '../../src/prune/measure-dense/dense-measures.js';
import {
  bestOfSoftmax,
  branches,
  CHOSEN,
  EXPERTS,
  gathered,
  mixture,
  packedMixture,
  plainRouter,
} from '../support/mixtures.js';
import { buildDecoder, type Part, VOCABULARY, withSharedExpert } from '../support/small-decoder.js';
import { type Loaded, loadTinyLlama, pruneLoaded, runModel } from '../support/tiny-llama.js';

const windows = Array.from({ length: 6 }, (_, window) =>
  Int32Array.from({ length: 20 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);
const OPTIONS = { sparsity: 0.3, method: 'o-fang', grouping: { contextCount: 3 } } as const;

const FORMS: Readonly<Record<string, Part>> = {
  'one operator': mixture(plainRouter),
  'packed weights': packedMixture,
  'gathered weights and a shared expert': withSharedExpert(gathered(bestOfSoftmax)),
  'separate nodes': branches(),
};

/** Chosen experts of each token, read from a run of the whole model. */
async function chosenOf({ model, analysed }: Loaded): Promise<number[][][]> {
  const graph = model.proto.graph!;
  const modules = analysed.detected.layout.modules.filter(({ kind }) => kind === 'experts');
  const fetches = modules.map(({ unfusedExperts, output }) => unfusedExperts?.chosen ?? output.input);
  const known = new Set(graph.output.map(({ name }) => name));
  for (const name of fetches)
    if (!known.has(name)) graph.output.push(makeValueInfo(name, analysed.facts.first.get(name)!.dataType));
  const values = await runModel(model, windows, fetches);
  graph.output.length = known.size;
  return modules.map(({ unfusedExperts }, at) => {
    const { data } = values[fetches[at]!]!;
    const width = unfusedExperts === undefined ? EXPERTS : CHOSEN;
    return Array.from({ length: data.length / width }, (_, token) => {
      const row = Array.from({ length: width }, (_, place) => Number(data[token * width + place]));
      if (unfusedExperts !== undefined) return row;
      return [...row.keys()].sort((a, b) => row[b]! - row[a]!).slice(0, CHOSEN);
    });
  });
}

it.each(Object.entries(FORMS))('counts the tokens of each context by chosen expert: %s', async (_, ffn) => {
  const loaded = await loadTinyLlama(buildDecoder({ ffn }));
  const { dense } = await pruneLoaded(loaded, OPTIONS, { windows });
  const chosen = await chosenOf(loaded);
  const routings = [...dense.routings!];
  expect(routings.map(([{ block }]) => block)).toEqual([0, 1]);
  routings.forEach(([module, { contexts, tokens }], at) => {
    const expected = new Int32Array(contexts.contextCount * EXPERTS);
    contexts.contextOfToken.forEach((context, token) => {
      for (const expert of chosen[at]![token]!) expected[context * EXPERTS + expert]! += 1;
    });
    expect(tokens).toEqual(expected);
    expect(contexts.typicalTokens).toHaveLength(contexts.contextCount);
    // Modules with the same input have the same contexts.
    for (const [other, found] of dense.functional)
      if (other.input === module.input) expect(contexts.contextOfToken).toBe(found.contexts.contextOfToken);
  });
});

it('counts nothing for a method without contexts', async () => {
  const loaded = await loadTinyLlama(buildDecoder({ ffn: mixture(plainRouter) }));
  const { dense } = await pruneLoaded(loaded, { sparsity: 0.3, method: 'flap' }, { windows });
  expect(dense.routings).toEqual(new Map<never, MixtureRouting>());
});
