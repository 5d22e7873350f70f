import type { HeadUnit, ModuleSelection, PruneOptions } from '../options.js';
import type { JobControl } from '../progress.js';

/** What every command passes on: where the model is and what runs it. */
export interface ModelRequest extends JobControl {
  readonly model: string;
  readonly executionProvider?: readonly string[];
}

/** What `prune` is asked; the named methods only, since a command line cannot carry a function. */
export type PruneRequest = ModelRequest &
  Omit<PruneOptions, 'method'> & {
    readonly method?: string;
    readonly modules?: ModuleSelection;
    readonly headUnit?: HeadUnit;
    readonly out?: string;
    readonly force?: boolean;
    readonly dryRun?: boolean;
  };

/** The part of a pruning report that is printed for people; `--json` prints all of it. */
export interface PruneSummary {
  readonly model: string;
  readonly out?: string;
  readonly method: string;
  readonly seed: number;
  readonly sparsity: { readonly requested: number; readonly achieved: number; readonly ofAllParameters: number };
  readonly parameters: { readonly before: number; readonly after: number };
  readonly bytes: { readonly before: number; readonly after: number };
  readonly modules: readonly ModuleSummary[];
  readonly timings: readonly { readonly stage: string; readonly ms: number }[];
  readonly peakMemoryBytes?: number;
  readonly remarks: readonly string[];
}

export interface ModuleSummary {
  readonly block: number;
  readonly kind: string;
  readonly unitsBefore: number;
  readonly unitsAfter: number;
}

/** The part of a model description that is printed for people. */
export interface DescriptionSummary {
  readonly model: string;
  readonly format: {
    readonly opset: number;
    readonly dataType: string;
    readonly bytes: number;
    readonly external: boolean;
  };
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  readonly parameters: { readonly total: number; readonly prunable: number };
  readonly blocks: readonly { readonly index: number; readonly modules: readonly ModuleDescription[] }[];
  readonly unrecognised: readonly UnrecognisedSummary[];
}

export interface ModuleDescription {
  readonly kind: string;
  readonly description: string;
  /** Neurons of an FFN. */
  readonly width?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly headSize?: number;
  readonly parameters: number;
}

export interface UnrecognisedSummary {
  readonly block: number;
  readonly kind: string;
  readonly node: string;
  readonly opType: string;
  readonly reason: string;
  readonly nearest: string;
}

export interface PerplexityRequest extends ModelRequest {
  readonly file: string;
  readonly windowLength?: number;
  readonly stride?: number;
  readonly windowCount?: number;
  readonly bos?: boolean;
}

export interface PerplexitySummary {
  readonly perplexity: number;
  readonly tokenCount: number;
}

export interface GenerationRequest extends ModelRequest {
  readonly prompt: string;
  readonly maxNewTokens?: number;
  readonly seed?: number;
}

export interface GenerationSummary {
  readonly text: string;
}

/** Port to the library: what the commands call. `src/node.ts` fits it, and so do test doubles. */
export interface CliApi {
  prune(request: PruneRequest): Promise<PruneSummary>;
  describe(request: ModelRequest): Promise<DescriptionSummary>;
  perplexity(request: PerplexityRequest): Promise<PerplexitySummary>;
  generateText(request: GenerationRequest): Promise<GenerationSummary>;
}
