import type { CompensationAdapter } from './compensation/adapter.js';
import type { ModuleKind } from './architecture/layout.js';
import type { JobControl } from './progress.js';

/** Where calibration tokens come from; exactly one source. */
export type CalibrationSource =
  | { readonly text: string | Iterable<string> | AsyncIterable<string> }
  | { readonly tokens: Iterable<readonly number[]> | AsyncIterable<readonly number[]> }
  /** A `.txt` file (one text) or a `.jsonl` file (one text a line, `{"text": ...}` or `{"input_ids": [...]}`). */
  | { readonly file: string };

export interface CalibrationOptions {
  /** Default: the public text that ships with the package. */
  readonly source?: CalibrationSource;
  /** Windows to cut, at least 1. Default 64. */
  readonly windowCount?: number;
  /** Tokens per window, at least 2. Default 512, or the model's context length if that is less. */
  readonly windowLength?: number;
  /** Windows that run through a block together, at least 1. Default: about 2048 tokens. */
  readonly batchSize?: number;
}

/** Which neurons and heads may go: FFN neurons, attention heads, or both. */
export type ModuleSelection = 'ffn' | 'attention' | 'all';

/**
 * What is removed of grouped-query attention: a KV head with all its query heads (`group`), or the same number of query
 * heads from every group (`query`). Multi-head attention always loses single heads.
 */
export type HeadUnit = 'group' | 'query';

/** How the sparsity is spread over the blocks. */
export type AllocationName = 'uniform' | 'standardised';

/** A pruning method by name (see `METHODS`), or your own scoring and repair. */
export type MethodChoice = string | CompensationAdapter;

/** Everything a pruning run can be told, independent of where model and result live. */
export interface PruneOptions extends JobControl {
  /** Fraction of the selected prunable parameters to remove, in [0, 1). */
  readonly sparsity: number;
  /** Default `flap`. */
  readonly method?: MethodChoice;
  /** Default `all`. */
  readonly modules?: ModuleSelection;
  /** Default: the method's own (`uniform` for most). */
  readonly allocation?: AllocationName;
  /** Default `group`. */
  readonly headUnit?: HeadUnit;
  /** FFN widths are kept at multiples of this, rounding the removal to the nearest; at least 1. Default 1. */
  readonly widthMultiple?: number;
  /** Blocks that stay whole. Default none. */
  readonly skipBlocks?: readonly number[];
  /** Sparsity of single blocks, overriding the allocation: a number for the block, or one for each module kind. */
  readonly blockSparsity?: Readonly<Record<number, number | Partial<Record<ModuleKind, number>>>>;
  /** KV head counts may differ between blocks (ONNX Runtime and transformers.js >= 4.2 take that). Default false. */
  readonly perBlockKvHeads?: boolean;
  readonly calibration?: CalibrationOptions;
  /** Seeds everything random. Default 0. */
  readonly seed?: number;
  /** Where hidden states wait between blocks: in memory or in a temporary file. Default: memory up to 256 MiB, then spill. */
  readonly hiddenStates?: 'memory' | 'spill';
}

export const PRUNE_DEFAULTS = {
  method: 'flap',
  modules: 'all',
  headUnit: 'group',
  widthMultiple: 1,
  perBlockKvHeads: false,
  seed: 0,
  calibration: { windowCount: 64, windowLength: 512 },
} as const;
