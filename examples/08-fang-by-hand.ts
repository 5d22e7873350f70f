/** FANG composed of its parts: the same bytes as `method: 'o-fang'` for FFNs. `npx tsx examples/08-fang-by-hand.ts OUT` */
import { prune, type Stages } from 'fang-prune';
import * as fang from 'fang-prune/core';

const grouping = fang.GROUPING_DEFAULTS;
const needs = { grouping, blockChange: true, sensitivity: false, curvatures: undefined, order: undefined };

const pruneMeasured: Stages['pruneMeasured'] = {
  name: 'FANG by hand',
  async run(_, { job, store }) {
    const context = fang.startContext({ ...job, store });
    const modules = job.analysed.detected.layout.modules.filter(({ kind }) => kind === 'ffn');

    // Contexts of all tokens and the change that every block makes (Eq. 8), then gradients for the affinity (Eq. 5).
    const passes = await fang.startDensePasses(context, { ...needs, modules });
    const forwards = await fang.measureForwards(context, passes);
    const { found: gradients } = await fang.measureBackwards(context, passes, forwards);
    await passes.dispose();

    // Function groups; blocks that change their input more lose less.
    const functional = new Map<fang.PrunableModule, fang.FunctionalModule>();
    for (const [module, own] of forwards.contexts) {
      const affinity = gradients.get(module)!.affinity!;
      const groups = fang.groupNeurons({ ...grouping, ...own, affinity, random: context.random });
      functional.set(module, { contexts: own, groups, affinity });
    }
    const dense = { blockChange: forwards.blockChange, functional };
    const counts = fang.allocateModules(job.options, modules, dense);

    // Block by block, behind the pruned ones: tokens weighted for each group (Eq. 6), scores, OBC's repair.
    const model = fang.copyModel(job.model);
    const runner = await context.startRunner(model);
    const done = { modules: [] as fang.ModuleOutcome[], changed: new Map(), bridges: [] };
    for (const module of modules) {
      while (runner.segment < module.segment) await context.pass(runner);
      const here = { runner, model, modules: [module], needs: 'gram', functional, dense } as const;
      const statistics = await fang.measureModules(context, here);
      const [scored] = await fang.scoreSegment(context, { ...here, statistics });
      const leaving = { module, scored: scored!, stepCount: counts.get(module.index)!, runner };
      done.modules.push((await fang.shrinkModule(context, model, leaving, done)).outcome);
    }
    await Promise.all([runner.dispose(), context.dispose()]);
    fang.tidyModel(model);
    return { model, ...done, dense, timings: context.timings(), remarks: context.remarks };
  },
};

const run = { model: 'examples/models/tiny-llama', out: process.argv[2], calibration: { windowCount: 2 } };
const obc = { sparsity: 0.3, modules: 'ffn', method: 'obc', allocation: 'adaptive' } as const;
console.log(`FFNs pruned by hand: ${(await prune({ ...run, ...obc, stages: { pruneMeasured } })).out}`);
