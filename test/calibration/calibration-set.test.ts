import { readFileSync } from 'node:fs';
import { createCalibrationSet } from '../../src/calibration/calibration-set.js';
import { DEFAULT_TEXTS } from '../../src/calibration/default-text.js';
import { createTokenizer } from '../../src/calibration/tokenizer.js';
import { OptionError } from '../../src/errors.js';

const folder = 'examples/models/tiny-llama';
const read = (name: string) => JSON.parse(readFileSync(`${folder}/${name}`, 'utf8')) as unknown;
const tokenizer = createTokenizer(read('tokenizer.json'), read('tokenizer_config.json'));

describe('createCalibrationSet', () => {
  it('cuts windows from the text of the package', async () => {
    const { windows, provenance } = await createCalibrationSet({ tokenizer, windowCount: 3, windowLength: 16 });
    expect(windows.map(({ length }) => length)).toEqual([16, 16, 16]);
    expect(tokenizer.decode(windows[0]!)).toBe(tokenizer.decode(tokenizer.encode(DEFAULT_TEXTS[0]!).slice(0, 16)));
    expect(provenance).toMatchObject({
      kind: 'default-text',
      windowCount: 3,
      requestedWindowCount: 3,
      documentCount: 1,
    });
  });

  it('joins documents in order, with leading tokens and document ends', async () => {
    const source = { tokens: [[5, 6], [7], [8, 9]] };
    const shape = { windowCount: 4, windowLength: 2 };
    const plain = await createCalibrationSet({ source, ...shape });
    expect(plain.windows.flatMap((window) => [...window])).toEqual([5, 6, 7, 8]);
    const around = { leadingTokens: [1], documentEnd: 2 };
    const framed = await createCalibrationSet({ source, ...shape, windowLength: 4, ...around });
    expect(framed.windows.flatMap((window) => [...window])).toEqual([1, 5, 6, 2, 1, 7, 2, 1, 1, 8, 9, 2]);
    expect(framed.provenance).toMatchObject({ leadingTokens: [1], documentEnd: 2 });
  });

  it('reports fewer windows than requested if the source is short', async () => {
    const { provenance } = await createCalibrationSet({
      source: { tokens: [1, 2, 3, 4, 5] },
      windowCount: 8,
      windowLength: 2,
    });
    expect(provenance).toMatchObject({ kind: 'tokens', tokenCount: 5, windowCount: 2, requestedWindowCount: 8 });
    expect(provenance).not.toHaveProperty('textSha256');
  });

  it('stops reading an endless source when the windows are full', async () => {
    function* endless() {
      for (let token = 0; ; token++) yield [token];
    }
    const { provenance } = await createCalibrationSet({
      source: { tokens: endless() },
      windowCount: 2,
      windowLength: 3,
    });
    expect(provenance.tokenCount).toBe(6);
  });

  it('records the SHA-256 of text and tokens', async () => {
    const set = await createCalibrationSet({
      source: { text: ['ab', 'c'] },
      tokenizer,
      windowCount: 1,
      windowLength: 2,
    });
    // printf abc | sha256sum
    expect(set.provenance.textSha256).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    const ids = await createCalibrationSet({ source: { tokens: [1, 258] }, windowCount: 1, windowLength: 2 });
    // printf '\1\0\0\0\2\1\0\0' | sha256sum
    expect(ids.provenance.tokensSha256).toBe('fb8bbe2ad3ab5292f19bc5d75bbab9b5fbddc5a78ce47ab41b2d3d59bca08596');
  });

  it('samples windows by the seed', async () => {
    const source = { tokens: Array.from({ length: 200 }, (_, token) => token) };
    const options = { source, windowCount: 4, windowLength: 5, selection: 'sample' as const };
    const [one, again, other] = await Promise.all([1, 1, 2].map((seed) => createCalibrationSet({ ...options, seed })));
    expect(one!.provenance).toEqual(again!.provenance);
    expect(one!.provenance.tokensSha256).not.toBe(other!.provenance.tokensSha256);
  });

  it.each([
    ['an empty text', { text: '' }, /found 0 tokens/],
    ['two sources', { text: 'a', tokens: [1] }, /text and tokens/],
    ['no source', null as never, /exactly one/],
  ])('refuses %s', async (_, source, message) => {
    const made = createCalibrationSet({ source, tokenizer, windowCount: 1, windowLength: 2 });
    await expect(made).rejects.toThrow(OptionError);
    await expect(made).rejects.toThrow(message);
  });
});

describe('DEFAULT_TEXTS', () => {
  it('fills 16 windows of 512 tokens, without repeated lines', () => {
    const lines = DEFAULT_TEXTS.flatMap((text) => text.split('\n')).filter((line) => line.length > 60);
    expect(new Set(lines).size).toBe(lines.length);
    expect(tokenizer.encode(DEFAULT_TEXTS.join('')).length).toBeGreaterThan(16 * 512);
  });
});
