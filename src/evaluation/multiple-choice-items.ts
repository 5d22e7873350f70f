import type { Items } from '../calibration/token-source.js';
import { parseJsonLine } from '../calibration/token-source.js';
import { OptionError } from '../errors.js';

/** A question with several answers, of which one is right. */
export interface MultipleChoiceItem {
  /** For messages: `piqa.jsonl line 7`. */
  readonly place: string;
  /** What is compared: the likelihood of each continuation after its context. */
  readonly candidates: readonly Candidate[];
  /** Index of the right candidate. */
  readonly gold: number;
}

export interface Candidate {
  readonly context: string;
  readonly continuation: string;
}

/** A record's fields turned into candidates; the rows are told apart by the field that only they have. */
const LAYOUTS: readonly {
  readonly field: string;
  readonly candidates: (record: JsonRecord, place: string) => Candidate[];
}[] = [
  {
    field: 'choices',
    candidates: (record, place) => {
      const context = readText(record, 'query', place);
      return readTexts(record, 'choices', place).map((continuation) => ({ context, continuation }));
    },
  },
  {
    field: 'contexts',
    candidates: (record, place) => {
      const continuation = readText(record, 'continuation', place);
      return readTexts(record, 'contexts', place).map((context) => ({ context, continuation }));
    },
  },
];

type JsonRecord = Readonly<Record<string, unknown>>;

/**
 * Reads items from JSONL: `{"query", "choices": [...], "gold"}` asks which choice continues the query, `{"contexts": [...],
 * "continuation", "gold"}` after which context the continuation is likeliest. Blank lines are skipped, other fields ignored.
 *
 * @param name Name of the file, for messages.
 * @throws OptionError naming the file and line.
 */
export async function* readMultipleChoiceItems(
  lines: Items<string>,
  name?: string,
): AsyncGenerator<MultipleChoiceItem> {
  let number = 0;
  for await (const line of lines) {
    number++;
    const place = name === undefined ? `line ${number}` : `${name} line ${number}`;
    if (line.trim() !== '') yield parseItem(line, place);
  }
}

function parseItem(line: string, place: string): MultipleChoiceItem {
  const record = parseJsonLine(line, place);
  const layout = LAYOUTS.find(({ field }) => Object.hasOwn(record, field));
  if (layout === undefined) {
    throw new OptionError(
      `${place} has ${Object.keys(record).join(', ') || 'no fields'}; expected query, choices, gold or contexts, continuation, gold`,
    );
  }
  const candidates = layout.candidates(record, place);
  const { gold } = record;
  if (typeof gold !== 'number' || !Number.isInteger(gold) || gold < 0 || gold >= candidates.length) {
    throw new OptionError(
      `${place}: gold is ${JSON.stringify(gold)}, expected an integer from 0 to ${candidates.length - 1}`,
    );
  }
  return { place, candidates, gold };
}

function readText(record: JsonRecord, field: string, place: string): string {
  const value = record[field];
  if (typeof value !== 'string')
    throw new OptionError(`${place}: "${field}" is ${JSON.stringify(value)}, expected a string`);
  return value;
}

function readTexts(record: JsonRecord, field: string, place: string): string[] {
  const value = record[field];
  if (!Array.isArray(value) || value.length < 2 || !value.every((text) => typeof text === 'string' && text !== '')) {
    throw new OptionError(`${place}: "${field}" must be a list of at least two strings that are not empty`);
  }
  return value as string[];
}
