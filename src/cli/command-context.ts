import type { Command } from 'commander';
import { definedOf } from '../defined-of.js';
import type { DescribeRequest } from '../node/describe-folder.js';
import type { JobControl, ProgressListener } from '../progress.js';
import type { CliApi } from './api.js';
import { parseNames } from './option-parsers.js';
import type { Terminal } from './terminal.js';

/** What a command gets from whoever runs it. */
export interface CommandContext {
  readonly terminal: Terminal;
  /** Loaded on demand: `--help` need not wait for ONNX Runtime. */
  readonly loadApi: () => Promise<CliApi>;
  readonly signal: AbortSignal;
  /** Hears of progress too. Default: nobody. */
  readonly onProgress?: ProgressListener;
}

/** Options that every command takes. */
export interface SharedOptions {
  readonly embeddings?: string;
  readonly executionProvider?: readonly string[];
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

/** Declares the options that every command with a model takes. */
export function withSharedOptions(command: Command): Command {
  return withOutputOptions(
    command
      .option(
        '--embeddings <file>',
        'embedding model of a decoder that reads inputs_embeds (default: the one in its folder)',
      )
      .option(
        '--execution-provider <names>',
        'ONNX Runtime execution providers in order of preference, such as cuda,cpu',
        parseNames,
      ),
  );
}

/** Declares the options that every command takes. */
export function withOutputOptions(command: Command): Command {
  return command
    .option('--json', 'print one JSON object on stdout')
    .option('--quiet', 'show no progress')
    .option('--verbose', 'show where an error came from')
    .option('--no-color', 'print without colours');
}

/** What the shared options and the running job add to a request. */
export function modelRequest(
  model: string,
  { embeddings, executionProvider }: SharedOptions,
  control: JobControl,
): DescribeRequest {
  return { model, ...control, ...definedOf({ embeddings, executionProvider }) };
}
