import { DESCRIBE } from '../options/commands.js';
import { checkOptions, rowsOf } from '../options/option.js';
import { describeModel, type ModelDescription } from '../report/describe-model.js';
import type { Platform } from '../runtime/platform.js';
import type { ModelRequest } from '../storage/model-folder.js';
import { withJob } from './job-context.js';
import { resolveStages, type StagesOption } from './stages.js';

export interface DescribeRequest extends ModelRequest, StagesOption<'open' | 'load' | 'analyse'> {}

/** Opens, loads and analyses. */
export async function runDescribe(platform: Platform, request: DescribeRequest): Promise<ModelDescription> {
  checkOptions(request, rowsOf(DESCRIBE));
  const { open, load, analyse } = resolveStages(request.stages);
  return withJob(platform, request, async (context) => {
    const folder = await open.run(context, request);
    const model = await load.run(context, folder);
    const analysed = await analyse.run(context, { model, engine: await platform.createEngine(request) });
    context.onProgress?.({ stage: 'analyse', done: 1, total: 1 });
    const description = describeModel(request.model, model, analysed);
    return model.embeddingPrefix === undefined ? description : { ...description, embeddings: folder.embeddings! };
  });
}
