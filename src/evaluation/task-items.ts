import { type Items, parseJsonLine } from '../calibration/token-source.js';
import { OptionError } from '../errors.js';

/** `multiple-choice`: the most likely candidate. `last-word`: whether greedy decoding generates the target. */
export type TaskKind = 'multiple-choice' | 'last-word';

/** One item of a task. */
export interface TaskItem {
  readonly kind: TaskKind;
  /** For messages: `piqa.jsonl line 7`. */
  readonly place: string;
  /** Context and continuation of each candidate; a last-word item has one. */
  readonly candidates: readonly Candidate[];
  /** Index of the right candidate. */
  readonly gold: number;
}

export interface Candidate {
  readonly context: string;
  readonly continuation: string;
  /** Divisor of accNorm: characters (code points) of the choice as written in the file. */
  readonly characterCount: number;
}

/** Converts a record to an item; each row has a field that identifies it. */
interface ItemLayout {
  readonly field: string;
  readonly fields: string;
  readonly kind: TaskKind;
  readonly candidates: (record: JsonRecord, place: string) => Candidate[];
}

const LAYOUTS: readonly ItemLayout[] = [
  {
    field: 'choices',
    fields: 'query, choices, gold',
    kind: 'multiple-choice',
    candidates: (record, place) => {
      const context = readText(record, 'query', place);
      return readTexts(record, 'choices', place).map((choice) => candidate(context, choice, choice));
    },
  },
  {
    field: 'contexts',
    fields: 'contexts, continuation, gold',
    kind: 'multiple-choice',
    candidates: (record, place) => {
      const continuation = readFilled(record, 'continuation', place);
      // The choices are the contexts, so lm-evaluation-harness divides by their lengths.
      return readTexts(record, 'contexts', place).map((context) => candidate(context, continuation, context));
    },
  },
  {
    field: 'target',
    fields: 'context, target',
    kind: 'last-word',
    candidates: (record, place) => {
      const target = readFilled(record, 'target', place);
      return [candidate(readFilled(record, 'context', place), target, target)];
    },
  },
];

type JsonRecord = Readonly<Record<string, unknown>>;

/**
 * Reads a task from JSONL, one item a line: `{"query", "choices": [...], "gold"}` selects the choice that continues the
 * query, `{"contexts": [...], "continuation", "gold"}` the context after which the continuation is most likely,
 * `{"context", "target"}` checks whether greedy decoding generates the target. Blank lines are skipped, other fields
 * ignored.
 *
 * @param name Name of the file, for messages.
 * @throws OptionError naming the file and line; also for a file without items, or one that mixes kinds.
 */
export async function* readTaskItems(lines: Items<string>, name?: string): AsyncGenerator<TaskItem> {
  let number = 0;
  let kind: TaskKind | undefined;
  for await (const line of lines) {
    number++;
    if (line.trim() === '') continue;
    const place = name === undefined ? `line ${number}` : `${name} line ${number}`;
    const item = parseItem(line, place);
    kind ??= item.kind;
    if (item.kind !== kind) {
      throw new OptionError(
        `${place} is a ${item.kind} item, the lines before are ${kind}; give each kind its own file`,
      );
    }
    yield item;
  }
  if (kind === undefined) throw new OptionError(`${name ?? 'the task'} has no items; expected one JSON object a line`);
}

function parseItem(line: string, place: string): TaskItem {
  const record = parseJsonLine(line, place);
  const layout = LAYOUTS.find(({ field }) => Object.hasOwn(record, field));
  if (layout === undefined) {
    const expected = LAYOUTS.map(({ fields }) => fields).join(' or ');
    throw new OptionError(`${place} has ${Object.keys(record).join(', ') || 'no fields'}; expected ${expected}`);
  }
  const candidates = layout.candidates(record, place);
  return {
    kind: layout.kind,
    place,
    candidates,
    gold: layout.kind === 'last-word' ? 0 : readGold(record, place, candidates.length),
  };
}

function readGold({ gold }: JsonRecord, place: string, candidateCount: number): number {
  if (gold === undefined) throw new OptionError(`${place} has no gold; expected the index of the right answer`);
  if (typeof gold !== 'number' || !Number.isInteger(gold) || gold < 0 || gold >= candidateCount) {
    throw new OptionError(
      `${place}: gold is ${JSON.stringify(gold)}, expected an integer from 0 to ${candidateCount - 1}`,
    );
  }
  return gold;
}

function candidate(context: string, continuation: string, choice: string): Candidate {
  return { context, continuation, characterCount: Array.from(choice).length };
}

function readText(record: JsonRecord, field: string, place: string): string {
  const value = record[field];
  if (typeof value !== 'string')
    throw new OptionError(`${place}: "${field}" is ${JSON.stringify(value) ?? 'missing'}, expected a string`);
  return value;
}

function readFilled(record: JsonRecord, field: string, place: string): string {
  const value = readText(record, field, place);
  if (value.trim() === '') throw new OptionError(`${place}: "${field}" is empty`);
  return value;
}

function readTexts(record: JsonRecord, field: string, place: string): string[] {
  const value = record[field];
  if (!Array.isArray(value) || value.length < 2) {
    throw new OptionError(`${place}: "${field}" is ${JSON.stringify(value)}, expected a list of at least two strings`);
  }
  const invalid = value.findIndex((text) => typeof text !== 'string' || text === '');
  if (invalid >= 0) {
    throw new OptionError(
      `${place}: "${field}" has ${JSON.stringify(value[invalid])} at position ${invalid}, expected a string that is not empty`,
    );
  }
  return value as string[];
}
