import { describeContexts, quote } from '../../src/report/describe-contexts.js';

/** Decodes words with a space before each except the first, as SentencePiece does. */
const decode = (tokens: ArrayLike<number>) =>
  Array.from(tokens, (token) => ` w${token}`)
    .join('')
    .trimStart();

describe('a quoted token', () => {
  const window = Int32Array.from({ length: 60 }, (_, at) => at);

  it('is returned with the text before and after it', () => {
    expect(quote(window, 2, decode)).toEqual({
      before: 'w0 w1',
      token: ' w2',
      after: ' w3 w4 w5 w6 w7 w8 w9 w10'.slice(0, 24),
    });
    expect(quote(window, 0, decode)).toMatchObject({ before: '', token: 'w0' });
    expect(quote(window, 59, decode)).toMatchObject({ token: ' w59', after: '' });
  });

  it('has a limited number of characters around it, none of them split', () => {
    const smileys = (tokens: ArrayLike<number>) => '😀'.repeat(tokens.length);
    const { before, after } = quote(window, 40, smileys);
    expect([...before].every((character) => character === '😀')).toBe(true);
    expect([...quote(window, 40, (tokens) => '😀😀'.repeat(tokens.length)).before]).toHaveLength(48);
    expect([...after]).toHaveLength(16);
  });

  it('is decoded alone if characters span tokens', () => {
    // Two tokens make one character: the first alone is a replacement character.
    const halves = (tokens: ArrayLike<number>) => {
      const all = Array.from(tokens);
      return 'é'.repeat(Math.floor(all.length / 2)) + (all.length % 2 === 1 ? '\uFFFD' : '');
    };
    expect(quote(window, 1, halves)).toMatchObject({ token: '\uFFFD' });
  });
});

describe('contexts', () => {
  // Context 0 holds tokens 5 and 1, context 1 tokens 7 and 1.
  const windows = [Int32Array.of(5, 5, 5, 1, 7, 7), Int32Array.of(7, 7, 1, 5, 5, 9)];
  const contextOfToken = Int32Array.of(0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0);
  const typicalTokens = [Int32Array.of(0, 1, 9, 3), Int32Array.of(4, 7, 8)];
  const contexts = { contextCount: 2, contextOfToken, typicalTokens };

  it('list tokens that are frequent in them and rare elsewhere', () => {
    const [zero, one] = describeContexts({ contexts, windows, decode });
    expect(zero).toMatchObject({ tokenCount: 7, tokens: [{ text: 'w5', count: 5, lift: 1.71 }] });
    expect(one).toMatchObject({ tokenCount: 5, tokens: [{ text: 'w7', count: 4, lift: 2.4 }] });
  });

  it('list at most eight tokens, and none that is as frequent elsewhere', () => {
    const often = (token: number, count: number) => new Array<number>(count).fill(token);
    const first = [...Array.from({ length: 10 }, (_, token) => often(token, 3)).flat(), ...often(20, 3)];
    const second = [...often(30, 30), ...often(20, 3)];
    const found = describeContexts({
      windows: [Int32Array.from(first), Int32Array.from(second)],
      contexts: {
        contextCount: 2,
        contextOfToken: Int32Array.from([...often(0, 33), ...often(1, 33)]),
        typicalTokens: [Int32Array.of(0), Int32Array.of(33)],
      },
      decode,
    });
    expect(found.map(({ tokens }) => tokens!.map(({ text }) => text))).toEqual([
      ['w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6', 'w7'],
      ['w30'],
    ]);
  });

  it('show examples of different tokens first, then of the same ones', () => {
    const [zero] = describeContexts({ contexts, windows, decode });
    expect(zero!.examples!.map(({ token }) => token.trim())).toEqual(['w5', 'w1', 'w5', 'w5']);
  });

  it('quote nothing without a tokenizer', () => {
    expect(describeContexts({ contexts, windows })).toEqual([{ tokenCount: 7 }, { tokenCount: 5 }]);
  });
});
