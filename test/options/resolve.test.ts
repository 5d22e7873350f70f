import { ALLOCATIONS } from '../../src/allocation/allocations.js';
import { createAdapter } from '../../src/compensation/methods.js';
import { OptionError } from '../../src/errors.js';
import { METRICS, type MetricName } from '../../src/importance/metrics.js';
import { type PruneOptions, readsTokens, resolveOptions } from '../../src/options.js';

describe('resolveOptions', () => {
  it('fills in the defaults', () => {
    expect(resolveOptions({ sparsity: 0.3 })).toMatchObject({
      sparsity: 0.3,
      methodName: 'auto',
      adapter: { needs: 'gram' },
      modules: new Set(['ffn', 'attention', 'experts']),
      allocationName: 'global',
      allocation: ALLOCATIONS.global,
      metric: 'divergence',
      calibrationDefaults: { generate: true },
      headUnit: 'group',
      widthMultiple: 1,
      blockSparsity: new Map(),
      perBlockKvHeads: false,
      seed: 0,
    });
  });

  it('accepts values at their limits', () => {
    const resolved = resolveOptions({
      sparsity: 0,
      modules: 'attention',
      blockSparsity: { 1: 0.5, 2: { ffn: 0, attention: 0.99 } },
    });
    expect(resolved.sparsity).toBe(0);
    expect(resolved.modules).toEqual(new Set(['attention']));
    expect(resolved.blockSparsity.get(2)).toEqual({ ffn: 0, attention: 0.99 });
  });

  it('accepts sparsities in percent', () => {
    const { sparsity, blockSparsity } = resolveOptions({
      sparsity: '30%',
      blockSparsity: { 1: '50%', 2: { ffn: '12.5%' } },
    });
    expect([sparsity, blockSparsity.get(1), blockSparsity.get(2)]).toEqual([0.3, 0.5, { ffn: 0.125 }]);
  });

  it('accepts a method by name, as an adapter and as a formula', () => {
    const adapter = createAdapter('obc');
    expect(resolveOptions({ sparsity: 0.1, method: 'wanda' }).methodName).toBe('wanda');
    expect(resolveOptions({ sparsity: 0.1, method: adapter })).toMatchObject({ methodName: 'custom', adapter });
    const formula = resolveOptions({ sparsity: 0.1, method: ({ statistics }) => statistics.variance });
    expect(formula.adapter.needs).toBe('moments');
  });

  it('reads tokens for gradient metrics, even if the method does not', () => {
    const names = Object.keys(METRICS) as MetricName[];
    const reads = names.map((metric) => readsTokens(resolveOptions({ sparsity: 0.3, method: 'magnitude', metric })));
    expect(reads).toEqual(names.map((metric) => metric !== 'output'));
  });

  const allocate = () => [];
  const invalid: readonly (readonly [string, unknown, RegExp])[] = [
    [
      'allocation',
      { measures: ['blockchange'], allocate },
      /^allocation.measures contains "blockchange"; expected one of blockChange, sensitivity \(did you mean "blockChange"\?\)/,
    ],
    ['allocation', { measures: 'blockChange', allocate }, /^allocation.measures is "blockChange"; expected a list of/],
    ['allocation', { checkable: 'heads', allocate }, /^allocation.checkable is "heads"; expected one of budget, /],
    ['allocation', { orderBy: 'scores', allocate }, /^allocation.orderBy is "scores"; expected a function/],
    ['allocation', { candidates: { a: { measures: ['x'], allocate } }, allocate }, /^allocation.candidates is /],
    [
      'allocation',
      { candidates: ['global'], allocate },
      /^allocation.candidates is \["global"\]; expected allocations by name/,
    ],
    ['allocation', { measures: ['blockChange'] }, /^allocation is \{"measures":.*; expected one of uniform, /],
    ['sparsity', -0.1, /^sparsity is -0.1; expected a number from 0 to below 1/],
    ['sparsity', 1, /^sparsity is 1;/],
    ['sparsity', Number.NaN, /^sparsity is NaN;/],
    ['sparsity', undefined, /^sparsity is missing; expected a number from 0 to below 1/],
    ['sparsity', '0.3', /^sparsity is "0.3";/],
    ['sparsity', 30, /^sparsity is 30; .* \(did you mean "30%"\?\)$/],
    ['sparsity', '130%', /^sparsity is "130%";/],
    ['blockSparsity', { 0: '130%' }, /^blockSparsity\[0\] is "130%"/],
    ['sparsty', 0.3, /^unknown option "sparsty"; did you mean "sparsity"\?$/],
    ['gradientPower', 0.5, /^gradientPower was removed: leave it out; it did not improve results$/],
    ['model', 'folder', /^unknown option "model"; expected one of sparsity, modules, /],
    ['method', 'flip', /^method is "flip"; expected one of flap, .*, an adapter .* \(did you mean "flap"\?\)$/],
    ['method', 'toString', /^method is "toString"; expected one of flap, /],
    ['method', null, /^method is null; expected one of flap, /],
    ['method', { needs: 'gram' }, /^method is \{"needs":"gram"\}; expected .* an adapter/],
    ['modules', 'heads', /^modules is "heads"; expected one of ffn, attention, experts, all/],
    ['allocation', 'even', /^allocation is "even"; expected one of uniform, /],
    ['allocation', { measures: [] }, /^allocation is .* one of uniform, .* or \{ allocate \}/],
    ['allocation', null, /^allocation is null;/],
    ['metric', 'los', /^metric is "los"; expected one of output, loss, divergence \(did you mean "loss"\?\)$/],
    ['headUnit', 'kv', /^headUnit is "kv"; expected one of group, query/],
    ['widthMultiple', 0, /^widthMultiple is 0; expected an integer of at least 1/],
    ['widthMultiple', 1.5, /^widthMultiple is 1.5/],
    ['dampening', -1, /^dampening is -1; expected a number of at least 0/],
    ['dampening', '0.1', /^dampening is "0.1";/],
    ['skipBlocks', [0], /^skipBlocks was removed: give these blocks the sparsity 0 in blockSparsity, such as/],
    ['blockSparsity', 0.5, /^blockSparsity is 0.5; expected an object such as/],
    ['blockSparsity', { 0: 1 }, /^blockSparsity\[0\] is 1; expected a number from 0 to below 1/],
    ['blockSparsity', { 0: null }, /^blockSparsity\[0\] is null/],
    ['blockSparsity', { 0: { ffn: -1 } }, /^blockSparsity\[0\]\.ffn is -1/],
    [
      'blockSparsity',
      { 0: { fnn: 0.5 } },
      /^blockSparsity\[0\]\.fnn is not a kind of module; expected ffn, attention, experts/,
    ],
    ['blockSparsity', { first: 0.5 }, /^blockSparsity\[first\] is not a block/],
    ['perBlockKvHeads', 'yes', /^perBlockKvHeads is "yes"; expected true or false/],
    ['seed', -1, /^seed is -1; expected an integer of at least 0/],
    ['seed', 0.5, /^seed is 0.5/],
    ['batchSize', 4, /^batchSize was removed: leave it out/],
    ['heal', 64, /^heal is 64; expected true or false, or an object such as/],
    ['heal', { windowCount: 0 }, /^heal.windowCount is 0; expected an integer of at least 1/],
    ['heal', { trained: 'heads' }, /^heal.trained is "heads"; expected one of all, ffn, outputs/],
    ['heal', { learningRate: 0 }, /^heal.learningRate is 0; expected a number above 0/],
    ['grouping', 7, /^grouping is 7; expected true or false, or an object such as/],
    ['experts', 0, /^experts is 0; expected an integer of at least 1/],
    ['grouping', { contexts: 7 }, /^unknown option "grouping.contexts"; expected one of contextCount, /],
    ['grouping', { fitCount: 0 }, /^grouping.fitCount is 0; expected an integer of at least 1/],
    ['grouping', { contextCuont: 7 }, /^unknown option "grouping.contextCuont"; did you mean "contextCount"\?/],
    ['grouping', { sharedGroup: 'no' }, /^grouping.sharedGroup is "no"; expected true or false/],
    [
      'grouping',
      { clusterBalance: -1 },
      /^grouping.clusterBalance is -1; expected a number of at least 0, or Infinity/,
    ],
    ['signal', true, /^signal is true; expected an AbortSignal/],
  ];
  it.each(invalid)('refuses %s = %p', (name, value, message) => {
    const resolve = () => resolveOptions({ sparsity: 0.3, [name]: value } as unknown as PruneOptions);
    expect(resolve).toThrow(OptionError);
    expect(resolve).toThrow(message);
  });

  it.each<[Partial<PruneOptions>, string, RegExp]>([
    [{ fluctuation: 'IFV' }, 'fluctuation', /it applies only to methods flap, f-fang; leave it out$/],
    [{ method: 'flap', dampening: 0.1 }, 'dampening', /it applies only to methods obc, o-fang, auto; leave it out$/],
    [{ method: createAdapter('obc'), dampening: 0.1 }, 'dampening', /it applies only to methods/],
    [
      { weighting: { variant: 'uniform' } },
      'weighting.variant',
      /it applies only to grouping, or method o-fang or f-fang;/,
    ],
    [
      { allocation: 'uniform', minimumWidth: 0 },
      'minimumWidth',
      /it applies only to FFNs and experts, and at 0 with allocation global, compared;/,
    ],
    [{ modules: 'attention', minimumWidth: 0.1 }, 'minimumWidth', /FFNs/],
    [
      { modules: 'attention', widthMultiple: 8 },
      'widthMultiple',
      /it applies only to modules "ffn", "experts" or "all";/,
    ],
    [{ modules: 'attention', grouping: { contextCount: 3 } }, 'grouping.contextCount', /modules "ffn" or "all"/],
    [{ modules: 'ffn', headUnit: 'query' }, 'headUnit', /it applies only to modules "attention" or "all";/],
    [{ modules: 'ffn', perBlockKvHeads: true }, 'perBlockKvHeads', /modules "attention"/],
    [{ modules: 'ffn', blockSparsity: { 0: { attention: 0.5 } } }, 'blockSparsity[0].attention', /modules "attention"/],
    [{ method: 'magnitude', inputSteps: 2 }, 'inputSteps', /it applies only to FFNs and methods that read tokens;/],
  ])('refuses %p, which has no effect', (given, option, message) => {
    const resolve = () => resolveOptions({ sparsity: 0.3, ...given });
    expect(resolve).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', option, message: expect.stringMatching(message) }),
    );
    expect(resolve).toThrow(/ has no effect in this run: /);
  });

  it('accepts options that match what happens anyway, and undefined ones', () => {
    const none = { dampening: undefined, fluctuation: undefined, weighting: {}, grouping: false } as const;
    const more = { perBlockKvHeads: false, headUnit: 'group', inputSteps: 0, minimumWidth: 0.1 } as const;
    const resolve = () => resolveOptions({ sparsity: 0.3, method: 'magnitude', modules: 'ffn', ...none, ...more });
    expect(resolve).not.toThrow();
    expect(() => resolveOptions({ sparsity: 0.3, sparsty: undefined } as PruneOptions)).not.toThrow();
  });

  it("resolves a method's own settings", () => {
    expect(resolveOptions({ sparsity: 0.3 })).toMatchObject({ dampening: 0.1, inputSteps: 3, fluctuation: undefined });
    expect(resolveOptions({ sparsity: 0.3, method: 'obc' })).toMatchObject({ dampening: 0.01, inputSteps: 0 });
    expect(resolveOptions({ sparsity: 0.3, method: 'f-fang' })).toMatchObject({ fluctuation: 'WIFV' });
  });

  it.each(['flap', 'f-fang'])("accepts another of FLAP's scores for %s", (method) => {
    expect(resolveOptions({ sparsity: 0.3, method, fluctuation: 'IFV' }).fluctuation).toBe('IFV');
    const resolve = () => resolveOptions({ sparsity: 0.3, method, fluctuation: 'AIFV' as never });
    expect(resolve).toThrow(/^fluctuation is "AIFV"; expected one of IFV, WIFV, WIFN/);
  });

  it('refuses missing options', () => {
    expect(() => resolveOptions(undefined as unknown as PruneOptions)).toThrow(OptionError);
  });
});
