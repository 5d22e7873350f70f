import { nodePlatform } from '../../src/node/node-platform.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import type { Engine } from '../../src/runtime/engine.js';
import { openModelFolder } from '../../src/storage/model-folder.js';
import { testEngine } from '../support/engine.js';

const isHalf = ({ dataType }: { readonly dataType: number }) => dataType === 10;

describe.each(['qwen3-genai018-fp16cuda', 'llama-transformersjs-fp16slim'])('the probes of %s', (name) => {
  const analyse = async (engine: Engine) => {
    const folder = await openModelFolder(nodePlatform, `test/fixtures/exporters/${name}`);
    try {
      return (await analyseModel(await folder.load(), engine)).facts;
    } finally {
      await folder.close();
    }
  };

  it('run in float32, and give the facts of the float16 graph', async () => {
    // If the engine copies its feeds, the graph creates zeros itself and runs unchanged.
    const [found, expected] = [await analyse(testEngine), await analyse({ ...testEngine, copiesInputs: true })];
    expect([...found.first.values()].filter(isHalf).length).toBeGreaterThan(20);
    expect(new Map([...found.first].toSorted())).toEqual(new Map([...expected.first].toSorted()));
    expect(new Map([...found.second].toSorted())).toEqual(new Map([...expected.second].toSorted()));
  });

  it('feed no float16 weights', async () => {
    const fed: string[] = [];
    await analyse({
      ...testEngine,
      async load(model, options) {
        const session = await testEngine.load(model, options);
        const run: typeof session.run = (feeds, fetches) => {
          for (const { type, data } of Object.values(feeds)) if (data.length > 64) fed.push(type);
          return session.run(feeds, fetches);
        };
        return { ...session, run };
      },
    });
    expect(new Set(fed)).toEqual(new Set(['float32']));
  });
});
