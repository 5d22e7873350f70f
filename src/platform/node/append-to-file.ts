import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Addition } from '../platform.js';
import { writing } from '../writing.js';

/** The file is opened again each time: between two batches it may be moved, or another run may write into it. @see Files.append */
export function appendToFile(path: string, { text, start, expectedBytes }: Addition): Promise<number> {
  return writing(path, async () => {
    await mkdir(dirname(path), { recursive: true });
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
  });
}
