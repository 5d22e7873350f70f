import { OptionError } from '../errors.js';

/**
 * SHA-256 in hexadecimal, of a text's UTF-8 bytes or of bytes.
 * @throws OptionError without Web Crypto (browsers have it only over https and on localhost).
 */
export async function sha256(content: string | Uint8Array<ArrayBuffer>): Promise<string> {
  const subtle = globalThis.crypto?.subtle;
  if (subtle === undefined) {
    throw new OptionError(
      'Web Crypto is not available, which computes SHA-256; serve the page over https or from localhost',
    );
  }
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  const digest = new Uint8Array(await subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** SHA-256 of token ids, concatenated as 32-bit little-endian integers. */
export async function sha256OfTokens(sequences: readonly Int32Array[]): Promise<string> {
  const view = new DataView(new ArrayBuffer(4 * sequences.reduce((sum, { length }) => sum + length, 0)));
  let offset = 0;
  for (const tokens of sequences) {
    for (const token of tokens) {
      view.setInt32(offset, token, true);
      offset += 4;
    }
  }
  return sha256(new Uint8Array(view.buffer));
}
