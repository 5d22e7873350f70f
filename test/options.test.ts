import { ALLOCATIONS } from '../src/allocation/allocations.js';
import { createAdapter } from '../src/compensation/methods.js';
import { OptionError } from '../src/errors.js';
import { METRICS, type MetricName } from '../src/importance/metrics.js';
import { type PruneOptions, readsTokens, resolveOptions } from '../src/options.js';

describe('resolveOptions', () => {
  it('fills in the defaults', () => {
    expect(resolveOptions({ sparsity: 0.3 })).toMatchObject({
      sparsity: 0.3,
      methodName: 'auto',
      adapter: { needs: 'gram' },
      modules: new Set(['ffn', 'attention']),
      allocationName: 'global',
      allocation: ALLOCATIONS.global,
      metric: 'divergence',
      calibrationDefaults: { generate: true },
      headUnit: 'group',
      widthMultiple: 1,
      skipBlocks: new Set(),
      blockSparsity: new Map(),
      perBlockKvHeads: false,
      seed: 0,
    });
  });

  it('takes everything at its limits', () => {
    const resolved = resolveOptions({
      sparsity: 0,
      modules: 'attention',
      skipBlocks: [0, 3, 3],
      blockSparsity: { 1: 0.5, 2: { ffn: 0, attention: 0.99 } },
      widthMultiple: 64,
      batchSize: 1,
    });
    expect(resolved.sparsity).toBe(0);
    expect(resolved.modules).toEqual(new Set(['attention']));
    expect(resolved.skipBlocks).toEqual(new Set([0, 3]));
    expect(resolved.blockSparsity.get(2)).toEqual({ ffn: 0, attention: 0.99 });
  });

  it('takes a method by name, as an adapter and as a formula', () => {
    const adapter = createAdapter('obc');
    expect(resolveOptions({ sparsity: 0.1, method: 'wanda' }).methodName).toBe('wanda');
    expect(resolveOptions({ sparsity: 0.1, method: adapter })).toMatchObject({ methodName: 'custom', adapter });
    const formula = resolveOptions({ sparsity: 0.1, method: ({ statistics }) => statistics.variance });
    expect(formula.adapter.needs).toBe('moments');
  });

  it('knows that a metric made of gradients reads tokens, even where the method does not', () => {
    const names = Object.keys(METRICS) as MetricName[];
    const reads = names.map((metric) => readsTokens(resolveOptions({ sparsity: 0.3, method: 'magnitude', metric })));
    expect(reads).toEqual(names.map((metric) => metric !== 'output'));
  });

  const bad: readonly (readonly [keyof PruneOptions, unknown, RegExp])[] = [
    ['sparsity', -0.1, /sparsity is -0.1; expected a number from 0 to below 1/],
    ['sparsity', 1, /sparsity is 1;/],
    ['sparsity', Number.NaN, /sparsity is NaN;/],
    ['sparsity', undefined, /sparsity is undefined;/],
    ['sparsity', '0.3', /sparsity is 0.3;/],
    ['method', 'flip', /unknown method "flip"; expected one of flap, /],
    ['method', 'toString', /unknown method/],
    ['method', null, /method must be/],
    ['method', { needs: 'gram' }, /method must be/],
    ['modules', 'heads', /modules is "heads"; expected one of ffn, attention, all/],
    ['allocation', 'even', /allocation is "even"; expected one of uniform, /],
    ['allocation', { measures: [] }, /allocation must be one of uniform, .* or \{ allocate \}/],
    ['headUnit', 'kv', /headUnit is "kv"; expected one of group, query/],
    ['widthMultiple', 0, /widthMultiple is 0; expected a whole number of at least 1/],
    ['widthMultiple', 1.5, /widthMultiple is 1.5/],
    ['skipBlocks', [-1], /block index is -1/],
    ['skipBlocks', [0.5], /block index is 0.5/],
    ['skipBlocks', 3, /skipBlocks is 3; expected a list/],
    ['blockSparsity', { 0: 1 }, /blockSparsity\[0\] is 1/],
    ['blockSparsity', { 0: null }, /blockSparsity\[0\] is null/],
    ['blockSparsity', { 0: { ffn: -1 } }, /blockSparsity\[0\]\.ffn is -1/],
    ['blockSparsity', { 0: { fnn: 0.5 } }, /"fnn"; expected one of ffn, attention/],
    ['blockSparsity', { first: 0.5 }, /block index is NaN/],
    ['seed', -1, /seed is -1; expected a whole number of at least 0/],
    ['seed', 0.5, /seed is 0.5/],
    ['batchSize', 0, /batchSize is 0/],
    ['fluctuation', 'IFV', /fluctuation is "IFV", but only methods flap and f-fang have one; leave it out/],
    ['weighting', { variant: 'uniform' }, /no neurons are grouped; add grouping, or use method o-fang or f-fang/],
  ];
  it.each(bad)('refuses %s = %p', (name, value, said) => {
    const resolve = () => resolveOptions({ sparsity: 0.3, [name]: value } as unknown as PruneOptions);
    expect(resolve).toThrow(OptionError);
    expect(resolve).toThrow(said);
  });

  it.each(['flap', 'f-fang'])("takes another of FLAP's scores for %s", (method) => {
    expect(resolveOptions({ sparsity: 0.3, method, fluctuation: 'IFV' }).fluctuation).toBe('IFV');
    const resolve = () => resolveOptions({ sparsity: 0.3, method, fluctuation: 'AIFV' as never });
    expect(resolve).toThrow(/fluctuation is "AIFV"; expected one of IFV, WIFV, WIFN/);
  });

  it('refuses to guess without options', () => {
    expect(() => resolveOptions(undefined as unknown as PruneOptions)).toThrow(OptionError);
  });
});
