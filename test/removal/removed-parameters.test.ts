import type { PrunableModule } from '../../src/architecture/layout.js';
import { removedParameters } from '../../src/removal/removed-parameters.js';

it('counts key and value heads whose last query head is removed', () => {
  const shape = { unitCount: 4, parametersPerUnit: 10, groupOfUnit: Int32Array.of(0, 0, 1, 1), groupCount: 2 };
  const module = { ...shape, parametersPerGroup: 7 } as PrunableModule;
  expect(removedParameters({ module, keep: Int32Array.of(0, 1, 2, 3) })).toBe(0);
  expect(removedParameters({ module, keep: Int32Array.of(0, 2) })).toBe(20);
  expect(removedParameters({ module, keep: Int32Array.of(2, 3) })).toBe(27);
});

it('counts entire experts, and neurons inside the remaining ones', () => {
  const neurons = { unitCount: 6, unitSize: 1, parametersPerUnit: 10 };
  const module = { unitCount: 4, parametersPerUnit: 65, parametersPerGroup: 0, neurons } as PrunableModule;
  const keep = Int32Array.of(0, 3);
  expect(removedParameters({ module, keep })).toBe(130);
  expect(removedParameters({ module, keep, neurons: new Int32Array(10) })).toBe(130 + 20);
});
