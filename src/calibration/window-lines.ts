import { OptionError } from '../errors.js';
import { startOfDocuments } from './generated-set.js';
import { beginsWith } from './leading-tokens.js';
import { parseJsonLine } from './token-source.js';

/** Settings that determine generated windows: equal settings give equal windows. */
export interface WindowsOrigin {
  /** SHA-256 of the model's files. */
  readonly modelSha256: string;
  readonly seed: number;
  readonly startToken: number;
  /** Absent if documents begin only with `startToken`. */
  readonly leadingTokens?: readonly number[] | undefined;
  readonly temperature: number;
  /** Largest number of tokens of a document. */
  readonly documentLength: number;
  readonly windowLength: number;
}

/** Expected origin of a windows file, and the vocabulary size, an upper bound of ids. Default 2^31. */
export type ExpectedWindows = WindowsOrigin & { readonly vocabularySize?: number | undefined };

/** Incremented when random streams or the format change, so that older files are refused. */
const FORMAT = 2;

/** Beginning of the first line. */
const START = '{"input_ids":[],"generated":{';

/**
 * First line of a windows file. Like all lines it is a document of token ids (an empty one), so that the file can be
 * used as a calibration source.
 */
export function formatOriginLine(origin: WindowsOrigin): string {
  return `${JSON.stringify({ input_ids: [], generated: { format: FORMAT, ...origin } })}\n`;
}

/** A line with a window and its index, which reveals a second writer. */
export function formatWindowLine(window: Int32Array, index: number): string {
  return `${JSON.stringify({ window: index, input_ids: [...window] })}\n`;
}

/** Contents of a windows file. */
export interface WindowLines {
  readonly windows: readonly Int32Array[];
  /** Bytes of the complete lines; a partial line after them was interrupted while being written. */
  readonly completeBytes: number;
}

/**
 * Reads a windows file back.
 *
 * @param content The entire file; a last line without line break is ignored.
 * @throws OptionError when the windows are those of another run (with the differing settings), or the file is not a
 *   windows file.
 */
export function parseWindowLines(
  content: string,
  { vocabularySize = 2 ** 31, ...origin }: ExpectedWindows,
  place: string,
): WindowLines {
  const whole = content.slice(0, content.lastIndexOf('\n') + 1);
  const [first, ...lines] = whole.split('\n').slice(0, -1);
  if (first !== undefined) checkOrigin(first, origin, place);
  // A file of the user without a line break is not overwritten.
  else if (!content.startsWith(START) && !START.startsWith(content)) throw notWindows(place);
  const windows = lines.map((line, index) =>
    parseWindow(line, { origin, vocabularySize, index, place: `${place}, line ${index + 2}` }),
  );
  return { windows, completeBytes: new TextEncoder().encode(whole).byteLength };
}

const REMEDY = 'name another file, or remove this one to have the windows written again';

const notWindows = (place: string): OptionError =>
  new OptionError(`${place} does not begin like a file of generated windows; ${REMEDY}`);

function checkOrigin(line: string, origin: WindowsOrigin, place: string): void {
  const found = Object(parseJsonLine(line, `${place}, line 1,`).generated) as Record<string, unknown>;
  const expected: Record<string, unknown> = { format: FORMAT, ...origin };
  if (Object.keys(found).length === 0) throw notWindows(place);
  const isSame = (key: string) => JSON.stringify(found[key]) === JSON.stringify(expected[key]);
  const differing = Object.keys(expected).filter((key) => !isSame(key));
  if (differing.length > 0) {
    const list = differing.map((key) => `${key} ${JSON.stringify(found[key])} (here ${JSON.stringify(expected[key])})`);
    throw new OptionError(`${place} contains the windows of another run: ${list.join(', ')}; ${REMEDY}`);
  }
}

interface WindowPlace {
  readonly origin: WindowsOrigin;
  readonly vocabularySize: number;
  readonly index: number;
  readonly place: string;
}

function parseWindow(line: string, { origin, vocabularySize, index, place }: WindowPlace): Int32Array {
  const { window, input_ids: ids } = parseJsonLine(line, place);
  const isWindow =
    window === index &&
    Array.isArray(ids) &&
    ids.length === origin.windowLength &&
    beginsWith(ids, startOfDocuments(origin)) &&
    ids.every((id) => Number.isInteger(id) && id >= 0 && id < vocabularySize);
  if (!isWindow) {
    throw new OptionError(
      `${place} is not window ${index} of ${origin.windowLength} tokens below ${vocabularySize} from token ${origin.startToken} (did two runs write into the file?); ${REMEDY}`,
    );
  }
  return Int32Array.from(ids);
}
