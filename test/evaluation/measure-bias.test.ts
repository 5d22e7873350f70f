import { type BiasInput, measureBias } from '../../src/evaluation/measure-bias.js';
import { createRandom } from '../../src/linalg/random.js';

const LENGTH = 101;
const WINDOWS = 8;

interface Shape {
  /** Context of a window's tokens. */
  readonly contexts: (window: number) => number;
  /** Loss increase of a token of a context. */
  readonly lost: (context: number) => number;
}

/** Windows of one context each, with losses about 3. */
function scored({ contexts, lost }: Shape, seed: number) {
  const random = createRandom(seed);
  const windows = Array.from({ length: WINDOWS }, () =>
    Int32Array.from({ length: LENGTH }, () => Math.floor(random() * 1e6)),
  );
  const contextOf = windows.flatMap((window, at) => Array<number>(window.length).fill(contexts(at)));
  const dense = Float32Array.from({ length: WINDOWS * (LENGTH - 1) }, () => 2 + 2 * random());
  const pruned = dense.map((loss, at) => loss + lost(contexts(Math.floor(at / (LENGTH - 1)))) + 0.2 * random() - 0.1);
  return { scored: { windows, dense, pruned }, contextOf };
}

function bias(calibration: Shape, text: Shape): BiasInput {
  const [one, other] = [scored(calibration, 1), scored(text, 2)];
  const contextOfToken = Int32Array.from([...one.contextOf, ...other.contextOf]);
  return { calibration: one.scored, text: other.scored, contextCount: 3, contextOfToken };
}

/** Context 2 is in one window of eight of the text, and in none of the calibration. */
const calibrationShape: Shape = { contexts: (window) => window % 2, lost: () => 0.2 };
const textContexts = (window: number) => (window === 0 ? 2 : window % 2);

describe('the bias of a calibration', () => {
  it('reports losses by context', () => {
    const found = measureBias(
      bias(calibrationShape, { contexts: textContexts, lost: (context) => (context === 2 ? 2 : 0.2) }),
    );
    expect(found.calibration).toMatchObject({ tokenCount: 800, standardError: expect.closeTo(0.002, 3) });
    expect(found.calibration.pruned - found.calibration.dense).toBeCloseTo(0.2, 1);
    expect(found.contexts[2]).toMatchObject({ covered: false, text: { tokenCount: 100 } });
    expect(found.contexts[2]!.calibration).toBeUndefined();
    expect(found.contexts.slice(0, 2).map(({ covered }) => covered)).toEqual([true, true]);
    // 100 tokens losing 2 among 700 losing 0.2.
    expect(found.contexts[2]!.lostShare).toBeCloseTo(200 / 340, 1);
    expect(found.contexts.reduce((sum, { lostShare }) => sum + lostShare, 0)).toBeCloseTo(1, 6);
    expect(found.uncovered).toMatchObject({ text: 1 / 8, calibration: 0 });
  });

  it('warns if much is lost in contexts that the calibration hardly covers', () => {
    const lost = (context: number) => (context === 2 ? 2 : 0.2);
    const { warnings } = measureBias(bias(calibrationShape, { contexts: textContexts, lost }));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(
      /^5\d(\.\d)? % of the loss increase on the text .* 12\.5 % of its tokens and 0\.0 % of the calibration's \(3\)/,
    );
  });

  it.each([
    ['all is lost evenly', calibrationShape, { contexts: textContexts, lost: () => 0.2 }],
    ['little is lost there', calibrationShape, { contexts: textContexts, lost: (c: number) => (c === 2 ? 0.3 : 0.2) }],
    ['nothing is lost', calibrationShape, { contexts: textContexts, lost: () => 0 }],
    ['the pruned model does better', calibrationShape, { contexts: textContexts, lost: (c: number) => -c }],
    [
      'the calibration covers it',
      { contexts: (window: number) => window % 3, lost: () => 0.2 },
      { contexts: textContexts, lost: (c: number) => (c === 2 ? 2 : 0.2) },
    ],
  ])('gives no warning if %s', (_, calibration, text) => {
    expect(measureBias(bias(calibration, text)).warnings).toEqual([]);
  });

  it('uses the context of the token that a prediction is made from', () => {
    const windows = [Int32Array.of(1, 2, 3, 4)];
    const scoredWindows = { windows, dense: Float32Array.of(1, 1, 1), pruned: Float32Array.of(1, 5, 1) };
    const contextOfToken = Int32Array.of(0, 1, 0, 1, 0, 1, 0, 1);
    const { contexts } = measureBias({
      calibration: scoredWindows,
      text: scoredWindows,
      contextCount: 2,
      contextOfToken,
    });
    // Token 2 (value 3) is predicted from position 1, which is of context 1.
    expect(contexts.map(({ lostShare }) => lostShare)).toEqual([0, 1]);
    expect(contexts.map(({ text }) => text?.tokenCount)).toEqual([2, 1]);
  });

  it('warns if the text is part of the calibration', () => {
    const input = bias(calibrationShape, { contexts: textContexts, lost: () => 0.2 });
    const shared = input.text.windows.map((window, at) => (at === 0 ? input.calibration.windows[3]! : window));
    const { overlap, warnings } = measureBias({ ...input, text: { ...input.text, windows: shared } });
    expect(overlap).toEqual({ passageLength: 13, sharedCount: LENGTH, tokenCount: WINDOWS * LENGTH });
    expect(warnings).toEqual([expect.stringMatching(/^12\.5 % of the text is in the calibration text too/)]);
  });
});
