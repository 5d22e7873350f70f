import { parseJsonLine } from '../calibration/token-source.js';
import { OptionError } from '../errors.js';
import { isRecord } from '../parse-json.js';

/** A measurement with saved scores, and everything that its results depend on. */
export interface ScoredRun {
  /** Display names of model and source. */
  readonly model: string;
  readonly source: string;
  readonly kind: 'task' | 'perplexity' | 'divergence';
  /** SHA-256 of the model's files and its tokenizer's, of the reference's, and of the text or task file. */
  readonly modelSha256: string;
  readonly referenceSha256?: string | undefined;
  readonly sourceSha256: string;
  /** Settings of the measurement; compared as JSON. */
  readonly protocol: Readonly<Record<string, unknown>>;
}

/** A score in a file of several runs. */
export interface SavedScore {
  readonly run: number;
  readonly index: number;
}

/** Contents of a score file. */
export interface ScoreLines {
  readonly runs: readonly ScoredRun[];
  /** Scores by index, for each run. */
  readonly scores: readonly ReadonlyMap<number, SavedScore>[];
  /** Bytes of the complete lines; a partial line after them was interrupted while being written. */
  readonly completeBytes: number;
}

/** Incremented when the format or the computation changes, so that old scores are not mixed with new ones. */
const FORMAT = 1;

const REMEDY = 'name another file, or remove this one to start again';

/** Beginning of the first line. */
const START = '{"scores":{"format":';

/** First line of a score file: the runs whose scores it contains. */
export function formatRunsLine(runs: readonly ScoredRun[]): string {
  return `${JSON.stringify({ scores: { format: FORMAT, runs } })}\n`;
}

/** Lines of some scores. */
export function formatScoreLines(run: number, scores: readonly { readonly index: number }[]): string {
  return scores.map((score) => `${JSON.stringify({ run, ...score })}\n`).join('');
}

/**
 * Reads a score file back.
 *
 * @param content The entire file; a last line without line break is ignored.
 * @returns undefined for an empty file, or one whose first line was interrupted while being written.
 * @throws OptionError when it is not a score file, or has a damaged line.
 */
export function parseScoreLines(content: string, place: string): ScoreLines | undefined {
  const whole = content.slice(0, content.lastIndexOf('\n') + 1);
  const [first, ...lines] = whole.split('\n').slice(0, -1);
  if (first === undefined) {
    if (content.startsWith(START) || START.startsWith(content)) return undefined;
    throw notScores(place);
  }
  const runs = parseRuns(first, place);
  const scores = runs.map(() => new Map<number, SavedScore>());
  for (const [at, line] of lines.entries()) {
    const score = parseScore(line, runs, `${place} line ${at + 2}`);
    scores[score.run]!.set(score.index, score);
  }
  return { runs, scores, completeBytes: new TextEncoder().encode(whole).byteLength };
}

/** @throws OptionError with the differences when the runs of a file are not the expected ones. */
export function checkRuns(found: readonly ScoredRun[], expected: readonly ScoredRun[], place: string): void {
  if (found.length !== expected.length) {
    throw new OptionError(`${place} has ${found.length} measurements, not ${expected.length}; ${REMEDY}`);
  }
  for (const [at, run] of expected.entries()) {
    const differing = differences(found[at]!, run);
    if (differing.length === 0) continue;
    throw new OptionError(
      `${place} has the scores of another evaluation (${run.source} on ${run.model}): ${differing.join(', ')}; ${REMEDY}`,
    );
  }
}

const notScores = (place: string): OptionError =>
  new OptionError(`${place} does not begin like a file of scores; ${REMEDY}`);

function parseRuns(line: string, place: string): readonly ScoredRun[] {
  const { format, runs } = Object(parseJsonLine(line, `${place} line 1`).scores) as Record<string, unknown>;
  if (format === undefined || !Array.isArray(runs)) throw notScores(place);
  if (format !== FORMAT) {
    throw new OptionError(`${place} is of format ${JSON.stringify(format)}, expected ${FORMAT}; ${REMEDY}`);
  }
  const invalid = runs.findIndex((run) => !isRun(run));
  if (invalid >= 0) throw new OptionError(`${place} line 1: runs[${invalid}] is not a measurement; ${REMEDY}`);
  return runs as readonly ScoredRun[];
}

function isRun(value: unknown): boolean {
  const { kind, protocol, ...texts } = Object(value) as Record<string, unknown>;
  const areTexts = ['model', 'source', 'modelSha256', 'sourceSha256'].every((name) => typeof texts[name] === 'string');
  return FIELDS.has(kind) && isRecord(protocol) && areTexts;
}

type Check = (value: unknown, score: Readonly<Record<string, unknown>>) => boolean;

const isNumber: Check = (value) => Number.isFinite(value);
const isCount: Check = (value) => Number.isSafeInteger(value) && Number(value) >= 0;
const isPositive: Check = (value, score) => isCount(value, score) && value !== 0;

/** Accepts a list with one item per candidate. */
const each =
  (isItem: (item: unknown) => boolean): Check =>
  (value, { logLikelihoods }) =>
    Array.isArray(value) && value.length === Object(logLikelihoods).length && value.every((item) => isItem(item));

/** Required fields of a score, by the kind of its run. */
const FIELDS: ReadonlyMap<unknown, Readonly<Record<string, Check>>> = new Map<unknown, Readonly<Record<string, Check>>>(
  [
    [
      'task',
      {
        gold: (value, { logLikelihoods }) =>
          Number.isInteger(value) && Number(value) in Object(Array.isArray(logLikelihoods) ? logLikelihoods : []),
        logLikelihoods: each(Number.isFinite),
        isGreedy: each((item) => typeof item === 'boolean'),
        characterCounts: each((item) => isCount(item, {})),
        tokenCounts: each((item) => isCount(item, {})),
      },
    ],
    ['perplexity', { nll: isNumber, tokenCount: isPositive }],
    ['divergence', { divergence: isNumber, agreementCount: isCount, tokenCount: isPositive }],
  ],
);

function parseScore(line: string, runs: readonly ScoredRun[], place: string): SavedScore {
  const score = parseJsonLine(line, place);
  const run = Number.isSafeInteger(score.run) ? runs[Number(score.run)] : undefined;
  if (run === undefined || !isCount(score.index, score)) {
    throw new OptionError(`${place} is not a score: expected a run below ${runs.length} and an index; ${REMEDY}`);
  }
  const wrong = Object.entries(FIELDS.get(run.kind)!).find(([field, check]) => !check(score[field], score));
  if (wrong !== undefined)
    throw new OptionError(
      `${place} is not a score of a ${run.kind}: ${wrong[0]} is ${excerpt(score[wrong[0]])}; ${REMEDY}`,
    );
  return score as unknown as SavedScore;
}

/** The start of a value, for messages. */
const excerpt = (value: unknown): string => (JSON.stringify(value) ?? 'missing').slice(0, 100);

/** Differences of two runs as text, without display names. */
function differences(found: ScoredRun, expected: ScoredRun): string[] {
  const flat = ({ model: _model, source: _source, protocol, ...rest }: ScoredRun): Record<string, unknown> => ({
    ...rest,
    ...protocol,
  });
  const [old, now] = [flat(found), flat(expected)];
  return [...new Set([...Object.keys(now), ...Object.keys(old)])]
    .filter((key) => JSON.stringify(old[key]) !== JSON.stringify(now[key]))
    .map((key) => `${key} ${show(old[key])} (now ${show(now[key])})`);
}

function show(value: unknown): string {
  return typeof value === 'string' && value.length === 64
    ? `${value.slice(0, 12)}...`
    : (JSON.stringify(value) ?? 'none');
}
