/** FANG composed of its parts: the same bytes as `method: 'o-fang'` for FFNs. `npx tsx examples/08-fang-by-hand.ts OUT` */
import * as fang from 'fang-prune';

const needs = { grouping: fang.GROUPING_DEFAULTS, blockChange: true, sensitivity: false } as const;

const pruneMeasured: fang.Stages['pruneMeasured'] = {
  name: 'FANG by hand',
  async run(_, { job, store }) {
    const context = fang.startContext({ ...job, store }, { all: 4, before: 0 });
    const modules = job.analysed.detected.layout.modules.filter(({ kind }) => kind === 'ffn');

    // Contexts of all tokens and the change that every block makes (Eq. 8), then gradients for the affinity (Eq. 5).
    const wanted = { ...needs, modules, curvatures: undefined, order: undefined };
    const passes = await fang.startDensePasses(context, wanted);
    const { contexts, blockChange } = await fang.measureForwards(context, passes);
    const gradients = await fang.measureBackwards(context, passes, contexts);
    await passes.dispose();

    // Function groups; blocks that change their input more lose less.
    const functional = new Map<fang.PrunableModule, fang.FunctionalModule>();
    for (const [module, own] of contexts) {
      const affinity = gradients.get(module)!.affinity!;
      const { contextCount } = own;
      const groups = fang.groupNeurons({ ...needs.grouping, affinity, contextCount, random: context.random });
      functional.set(module, { contexts: own, groups, affinity });
    }
    const dense = { blockChange, functional };
    const counts = fang.allocateModules(job.options, modules, dense);

    // Block by block, behind the pruned ones: tokens weighted for each group (Eq. 6), scores, OBC's repair.
    const model = fang.copyModel(job.model);
    const runner = await context.startRunner(model);
    const [outcomes, edits] = [[] as fang.ModuleOutcome[], { changed: new Map(), bridges: [] }];
    for (const module of modules) {
      while (runner.stage < module.segment) await context.pass(runner);
      const here = { runner, model, modules: [module], needs: 'gram', functional, dense } as const;
      const statistics = await fang.measureModules(context, here);
      const [scored] = await fang.scoreSegment(context, { ...here, statistics });
      const cut = { module, scored: scored!, stepCount: counts.get(module.index)!, runner };
      outcomes.push(await fang.shrinkModule(context, model, cut, edits));
    }
    await Promise.all([runner.dispose(), context.dispose()]);
    fang.tidyModel(model);
    return { model, modules: outcomes, ...edits, dense, timings: context.timings(), remarks: context.remarks };
  },
};

const shared = { model: 'examples/models/tiny-llama', sparsity: 0.3, modules: 'ffn', report: false } as const;
const calibration = { windowCount: 8, windowLength: 64 };
const byHand = { measureDense: { name: 'nothing', run: async () => undefined }, pruneMeasured };
const out = process.argv[2] ?? 'tiny-llama-by-hand';
await fang.prune({ ...shared, calibration, out, method: 'obc', allocation: 'adaptive', stages: byHand });
console.log(`FFNs pruned by hand: ${out}`);
