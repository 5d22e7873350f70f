import { nodePlatform, STAGES, withJob } from '../../src/node.js';

/** Opens a model, with its folder, graph and the engine that it was analysed on. */
async function openDense(context: JobContext, model: string) {
  const engine = await nodePlatform.createEngine({});
  const folder = await STAGES.open.run(context, { model });
  const dense = await STAGES.load.run(context, folder);
  return { context, engine, folder, dense, analysed: await STAGES.analyse.run(context, { model: dense, engine }) };
}

type JobContext = Parameters<typeof STAGES.load.run>[0];

/** Runs a job on the dense model, as most scripts of this folder do. */
export const withDense = (model: string, run: (opened: Awaited<ReturnType<typeof openDense>>) => Promise<void>) =>
  withJob(nodePlatform, {}, async (context) => run(await openDense(context, model)));
