import { studentPoint, studentProbability } from '../../src/evaluation/student-t.js';

// From tables; integrals of the density by Simpson's rule agree.
it.each([
  [0.95, 1, 12.706204736],
  [0.95, 2, 4.30265273],
  [0.95, 3, 3.182446305],
  [0.95, 7, 2.364624252],
  [0.99, 10, 3.169272667],
  [0.95, 1000, 1.962339081],
  [0.5, 4, 0.740697084],
])('gives the point of %d for %d degrees of freedom', (confidence, degrees, t) => {
  expect(studentPoint(confidence, degrees)).toBeCloseTo(t, 7);
  expect(studentProbability(t, degrees)).toBeCloseTo(confidence, 8);
});

it('is 0 at 0 and 1 at infinity', () => {
  for (const degrees of [1, 2, 3, 8]) {
    expect(studentProbability(0, degrees)).toBe(0);
    expect(studentProbability(Number.POSITIVE_INFINITY, degrees)).toBeCloseTo(1, 15);
  }
});
