import type { OnnxModel } from '../onnx/onnx-model.js';
import { type AnalysedModel, analyseModel } from '../runtime/analyse-model.js';
import type { Engine } from '../runtime/engine.js';
import type { Stage } from './job-context.js';

export interface AnalyseInput {
  readonly model: OnnxModel;
  readonly engine: Engine;
}

/** Detects the layout of a model. @see analyseModel */
export const analyse: Stage<AnalyseInput, AnalysedModel> = {
  name: 'analyse',
  run: ({ timed, signal }, { model, engine }) => timed('analyse', () => analyseModel(model, engine, signal)),
};
