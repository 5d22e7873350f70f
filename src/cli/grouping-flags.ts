import { type Command, Option } from 'commander';
import { definedOf } from '../defined-of.js';
import { ASSIGNMENTS, type AssignmentName } from '../grouping/group-neurons.js';
import { FEATURES, type FeaturesName, GROUPING_DEFAULTS, type PruneOptions, WEIGHTING_DEFAULTS } from '../options.js';
import { WEIGHTING_VARIANTS, type WeightingName } from '../weighting/weighting-variants.js';
import { parseBalance, parseCount, parseNumber } from './option-parsers.js';

/** What a command line says about function groups and token weights. */
export interface GroupingFlags {
  readonly grouping?: boolean;
  readonly contexts?: number;
  readonly clusterBalance?: number;
  readonly features?: FeaturesName;
  readonly assignment?: AssignmentName;
  /** False where it was said, true otherwise. */
  readonly sharedGroup: boolean;
  readonly fitCount?: number;
  readonly weighting?: WeightingName;
  readonly temperature?: number;
  readonly relativeTemperature?: number;
}

/** Declares FANG's options: how neurons are grouped by function, and how tokens count for a group. */
export function withGroupingOptions(command: Command): Command {
  const { contextCount, clusterBalance, features, assignment, fitCount } = GROUPING_DEFAULTS;
  const { variant, temperature } = WEIGHTING_DEFAULTS;
  return command
    .option('--grouping', 'group FFN neurons by function, whatever the method; any setting of the groups asks for it')
    .option('--no-grouping', 'group no neurons (default: f-fang and o-fang do, the others do not)')
    .option(
      '--contexts <count>',
      `contexts that tokens fall into, and function groups (default ${contextCount})`,
      parseCount,
    )
    .option(
      '--cluster-balance <fraction>',
      `how far a context's size may be from their mean; none: as k-means likes (default ${clusterBalance})`,
      parseBalance,
    )
    .addOption(
      new Option('--features <name>', `what contexts are told apart by (default ${features})`).choices(FEATURES),
    )
    .addOption(
      new Option('--assignment <name>', `how neurons join function groups (default ${assignment})`).choices(
        Object.keys(ASSIGNMENTS),
      ),
    )
    .option('--no-shared-group', 'do not set aside the neurons that serve many contexts')
    .option('--fit-count <tokens>', `tokens that contexts are fitted on, at most (default ${fitCount})`, parseCount)
    .addOption(
      new Option('--weighting <name>', `how tokens count for a function group (default ${variant})`).choices(
        Object.keys(WEIGHTING_VARIANTS),
      ),
    )
    .option(
      '--relative-temperature <factor>',
      `how fast weights fall with distance: this times the mean between two contexts (default ${temperature.relative})`,
      parseNumber,
    )
    .addOption(
      new Option('--temperature <distance>', 'the same as a fixed distance, such as 9 in the paper for LLaMA-2-7B')
        .argParser(parseNumber)
        .conflicts('relativeTemperature'),
    );
}

/** The options of a run that these flags ask for; empty where nothing was said. */
export function groupingOptions(flags: GroupingFlags): Pick<PruneOptions, 'grouping' | 'weighting'> {
  const { contexts: contextCount, clusterBalance, features, assignment, fitCount } = flags;
  const sharedGroup = flags.sharedGroup ? undefined : false;
  const groups = definedOf({ contextCount, clusterBalance, features, assignment, fitCount, sharedGroup });
  const weights = definedOf({ variant: flags.weighting, temperature: temperatureOf(flags) });
  const isGrouped = Object.keys(groups).length > 0 && flags.grouping !== false;
  const grouping = isGrouped ? groups : flags.grouping;
  return {
    ...(grouping !== undefined && { grouping }),
    ...(Object.keys(weights).length > 0 && { weighting: weights }),
  };
}

function temperatureOf({ temperature: absolute, relativeTemperature: relative }: GroupingFlags) {
  if (absolute !== undefined) return { absolute };
  return relative === undefined ? undefined : { relative };
}
