import { runIsolated } from '../isolation/run-isolated.js';
import { compareEvaluations } from '../pipeline/evaluate/compare-evaluations.js';
import type { CliApi } from './api.js';

/** The library as the command line calls it: what runs a model or reads a report does so in a process of its own, and the rest is loaded late. */
export const isolatedApi: CliApi = {
  plan: (request) => runIsolated('plan', request),
  prune: (request) => runIsolated('prune', request),
  pruneLadder: (request) => runIsolated('pruneLadder', request),
  shrink: (request) => runIsolated('shrink', request),
  quantize: (request) => runIsolated('quantize', request),
  observe: (request) => runIsolated('observe', request),
  trimVocabulary: (request) => runIsolated('trimVocabulary', request),
  applyRecipe: (request) => runIsolated('applyRecipe', request),
  heal: (request) => runIsolated('heal', request),
  describe: (request) => runIsolated('describe', request),
  evaluateModels: (request) => runIsolated('evaluateModels', request),
  generateText: (request) => runIsolated('generateText', request),
  measureCalibrationBias: (request) => runIsolated('measureCalibrationBias', request),
  rebuildReport: (request) => runIsolated('rebuildReport', request),
  compareEvaluations,
  compareFiles: async (request) => (await import('../node.js')).compareFiles(request),
  mergeStatistics: async (request) => (await import('../node.js')).mergeStatistics(request),
  // Its models have processes of their own already.
  benchmark: async (request) => (await import('../node.js')).benchmark(request),
  push: async (request) => (await import('../node.js')).push(request),
};
