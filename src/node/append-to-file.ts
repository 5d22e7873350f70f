import { open } from 'node:fs/promises';

interface Appending {
  readonly text: string;
  /** Where the text goes; what lies behind is cut off. */
  readonly start: number;
  readonly expectedBytes: number;
}

/**
 * Adds to a file that a run keeps for the next one. It is opened anew each time: between two batches it may be moved, or
 * another run may write into it.
 * @returns Bytes that the file has now.
 * @throws Error when the file is not as long as this run left it.
 */
export async function appendToFile(path: string, { text, start, expectedBytes }: Appending): Promise<number> {
  const file = await open(path, 'a');
  try {
    const { size } = await file.stat();
    if (size !== expectedBytes)
      throw new Error(`it has ${size} bytes, not ${expectedBytes}: something else writes there`);
    await file.truncate(start);
    await file.appendFile(text);
    return (await file.stat()).size;
  } finally {
    await file.close();
  }
}
