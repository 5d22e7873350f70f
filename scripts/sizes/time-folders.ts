import { nodePlatform } from '../../src/node.js';
import { withJob } from '../../src/pipeline/job-context.js';
import { open } from '../../src/pipeline/stage-open.js';
import { timeModels } from '../../src/pipeline/time-models.js';
import type { MeasuredSize } from './measured-size.js';

/** Times models as their users run them: ONNX Runtime chooses the threads. */
export function timeFolders(models: readonly string[]): Promise<readonly NonNullable<MeasuredSize['speed']>[]> {
  return withJob(nodePlatform, {}, async (context) => {
    const folders = [];
    for (const model of models) folders.push(await open.run(context, { model }));
    return (await timeModels(context, await nodePlatform.createEngine({ threads: 0 }), folders)).models;
  });
}
