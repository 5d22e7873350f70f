import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import {
  type BiasRequest,
  measureCalibrationBias,
  perplexity,
  prune,
  rebuildReport,
  trimVocabulary,
} from '../../src/node.js';
import { FUSED_LLAMA, SHORT_LLAMA } from '../support/short-llama.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

const text = (name: string) => join(TINY_LLAMA, 'text', `${name}.txt`);
const calibration = { source: { file: text('prose') }, windowCount: 8, windowLength: 64 };

let folder: string;
/** The entire model, for tests of the bias itself; two of its blocks suffice for the arithmetic. */
let whole: Pair;
let short: Pair;
const at = (path: string) => join(folder, path);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fang-prune-test-'));
  whole = await makePair(FUSED_LLAMA, at('pruned'));
  short = await makePair(SHORT_LLAMA, at('short'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Pair {
  readonly dense: string;
  readonly pruned: string;
}

async function makePair(dense: string, pruned: string): Promise<Pair> {
  const request = { sparsity: 0.5, method: 'flap', modules: 'ffn', certify: false, evaluation: false } as const;
  await prune({ ...request, model: dense, out: pruned, calibration });
  return { dense, pruned };
}

const bias = (request: Partial<BiasRequest>) =>
  measureCalibrationBias({ ...short, text: text('arithmetic'), calibration, ...request });

describe('the bias of a calibration on prose', () => {
  it('is found on arithmetic, in contexts with few calibration tokens', async () => {
    const found = await bias(whole);
    expect(found.text.pruned - found.text.dense).toBeGreaterThan(found.calibration.pruned - found.calibration.dense);
    expect(found.uncovered.text).toBeGreaterThan(0.5);
    expect(found.uncovered.calibration).toBeLessThan(0.2);
    expect(found.warnings).toEqual([expect.stringMatching(/of the loss increase on the text is in contexts/)]);
    expect(found.described.some(({ tokens = [] }) => tokens.some((token) => /\d/.test(token.text)))).toBe(true);
  });

  it('has the perplexities of a separate measurement', async () => {
    const { perplexity: measured } = await bias({ windowCount: 3, contextCount: 2, quoteText: false });
    for (const [model, value] of [
      [short.dense, measured.dense!],
      [short.pruned, measured.pruned],
    ] as const) {
      const alone = await perplexity({ model, text: text('arithmetic'), windowLength: 64, windowCount: 3 });
      expect(value / alone.perplexity).toBeCloseTo(1, 5);
      expect(measured.protocol).toMatchObject({ tokenCount: alone.tokenCount, textSha256: alone.protocol.textSha256 });
    }
  });

  it('has no overlap with later prose, and a warning on text that was calibrated on', async () => {
    const prose = await readFile(text('prose'), 'utf8');
    await writeFile(at('later.txt'), prose.slice(prose.length / 2));
    const later = await bias({ ...whole, text: at('later.txt'), windowCount: 8 });
    expect(later.overlap.sharedCount).toBe(0);
    expect(later.warnings.filter((warning) => /is in the calibration text/.test(warning))).toEqual([]);
    const same = await bias({ ...whole, text: text('prose'), windowCount: 8, contextCount: 4 });
    expect(same.overlap.sharedCount).toBe(8 * 64);
    expect(same.warnings).toEqual([expect.stringMatching(/^100\.0 % of the text is in the calibration text too/)]);
  });

  it('has a warning if the given calibration is not that of the report', async () => {
    const { warnings } = await bias({ calibration: { ...calibration, windowCount: 2 }, windowCount: 2 });
    expect(warnings[0]).toMatch(/differs from the one in the pruned model's report/);
  });

  it('refuses texts shorter than a window, and a windowCount of 0', async () => {
    await writeFile(at('short.txt'), 'a few words');
    await expect(bias({ text: at('short.txt') })).rejects.toThrow(
      /short\.txt: found \d+ tokens, and one window needs 64/,
    );
    await expect(bias({ windowCount: 0 })).rejects.toThrow(OptionError);
  });

  it('refuses a pruned model without tokens of the text', async () => {
    const pruned = at('trimmed');
    await trimVocabulary({ model: SHORT_LLAMA, out: pruned, vocabularySize: 1000, certify: false });
    await expect(bias({ pruned })).rejects.toThrow(
      /trimmed has a vocabulary of \d+ tokens, and the text has others; give models of one vocabulary$/,
    );
  });
});

describe('a rebuilt report', () => {
  it('has added measurements in the JSON file and the page', async () => {
    const { perplexity: metric, ...found } = await bias({ windowCount: 2, contextCount: 2 });
    await writeFile(at('bias.json'), JSON.stringify({ ...found, perplexity: metric }));
    const { report, files } = await rebuildReport({ report: short.pruned, add: [at('bias.json')] });
    expect(files.map((file) => file.slice(short.pruned.length + 1)).sort()).toEqual([
      'fang-prune-report.html',
      'fang-prune-report.json',
    ]);
    expect(report.bias).toHaveLength(1);
    expect(JSON.parse(await readFile(join(short.pruned, 'fang-prune-report.json'), 'utf8'))).toEqual(
      JSON.parse(JSON.stringify(report)),
    );
    expect(await readFile(join(short.pruned, 'fang-prune-report.html'), 'utf8')).toContain('arithmetic.txt');
  });

  it('is written to the given path', async () => {
    const { files } = await rebuildReport({
      report: join(short.pruned, 'fang-prune-report.html'),
      out: at('elsewhere/page.json'),
    });
    expect([...files].sort()).toEqual([at('elsewhere/page.html'), at('elsewhere/page.json')]);
  });

  it('needs a report of this version, and existing files', async () => {
    await expect(rebuildReport({ report: TINY_LLAMA })).rejects.toThrow(/There is no report at/);
    await expect(rebuildReport({ report: short.pruned, add: [at('none.json')] })).rejects.toThrow(
      /no file .*none.json/,
    );
    await writeFile(at('old.json'), '{"schema": "fang-prune-report/0"}');
    await expect(rebuildReport({ report: at('old.json') })).rejects.toThrow(/this version reads/);
  });
});
