import { type Command, Option } from 'commander';
import { type CalibrationOptions, PRUNE_DEFAULTS } from '../options.js';
import { parseCount, parseFraction } from './option-parsers.js';

/** What a command line says about calibration windows. */
export interface CalibrationFlags {
  readonly calibration?: string;
  readonly windows?: number;
  readonly windowLength?: number;
  readonly selection?: CalibrationOptions['selection'];
  readonly generateCalibration?: number | boolean;
  readonly startToken?: number;
  readonly windowsFile?: string;
}

/** Declares the options that say which tokens the model is watched on. */
export function withCalibrationOptions(command: Command): Command {
  const { windowCount, windowLength } = PRUNE_DEFAULTS.calibration;
  return command
    .option('-c, --calibration <file>', 'a .txt or .jsonl file to measure on (default: a text that comes along)')
    .option('--windows <count>', `calibration windows (default ${windowCount})`, parseCount)
    .option(
      '--window-length <tokens>',
      `tokens per window (default ${windowLength}, or the model's context length)`,
      parseCount,
    )
    .addOption(
      new Option(
        '--selection <rule>',
        'windows from the start of the text, or drawn from all of it by the seed (default first)',
      ).choices(['first', 'sample']),
    )
    .option(
      '--generate-calibration [share]',
      'let the model write this fraction of the windows itself, such as 50% (default 0.5)',
      parseFraction,
    )
    .option('--no-generate-calibration', 'measure on text alone')
    .option('--start-token <id>', 'token that the windows the model writes begin with', parseCount)
    .option('--windows-file <file>', 'a .jsonl file that keeps those windows; a later run goes on from it');
}

/** The calibration that these flags ask for; empty where nothing was said. */
export function calibrationOptions(flags: CalibrationFlags): CalibrationOptions {
  return {
    ...(flags.calibration === undefined ? {} : { source: { file: flags.calibration } }),
    ...(flags.windows === undefined ? {} : { windowCount: flags.windows }),
    ...(flags.windowLength === undefined ? {} : { windowLength: flags.windowLength }),
    ...(flags.selection === undefined ? {} : { selection: flags.selection }),
    ...generateOptions(flags),
  };
}

/** What was said about windows that the model writes; a setting of theirs asks for them. */
function generateOptions({
  generateCalibration: share,
  startToken,
  windowsFile: file,
}: CalibrationFlags): Pick<CalibrationOptions, 'generate'> {
  if (share === false) return { generate: false };
  const settings = {
    ...(typeof share === 'number' ? { share } : {}),
    ...(startToken === undefined ? {} : { startToken }),
    ...(file === undefined ? {} : { file }),
  };
  if (Object.keys(settings).length > 0) return { generate: settings };
  return share === true ? { generate: true } : {};
}
