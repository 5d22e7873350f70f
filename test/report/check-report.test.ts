import { ModelFormatError } from '../../src/errors.js';
import { checkReport } from '../../src/report/check-report.js';
import { sampleReport } from '../support/sample-report.js';

const report = () => JSON.parse(JSON.stringify(sampleReport()));

it('accepts a report with all fields', () => {
  expect(checkReport(report(), 'r.json').method).toBe('o-fang');
});

it.each([
  ['peakMemoryBytes', 'much'],
  ['seed', null],
  ['out', 3],
  ['dtypes', [{ dtype: 'q4', file: 'model.onnx', bytes: 1 }]],
  ['calibration', { windowCount: 'two', windowLength: 8 }],
])('refuses a report with an invalid %s', (field, value) => {
  const check = () => checkReport({ ...report(), [field]: value }, 'r.json');
  expect(check).toThrow(ModelFormatError);
  expect(check).toThrow(RegExp(`^r\\.json: ${field}.*Get the report again, or prune again`));
});
