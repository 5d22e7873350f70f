import { EngineError, ModelFormatError, NumericalError, OptionError, UnsupportedModelError } from '../../src/errors.js';
import type { JobContext } from '../../src/pipeline/job-context.js';
import { isDeterministicError, withJournal } from '../../src/pipeline/resumable-job.js';

const system = (code: string) => Object.assign(new Error(code), { code });

const ERRORS: readonly (readonly [string, unknown, boolean])[] = [
  ['an operator without a gradient', new UnsupportedModelError('x'), true],
  ['NaN in a weight', new NumericalError('x'), true],
  ['NaN in a module', new NumericalError('x', { cause: new NumericalError('y') }), true],
  ['a model that the engine does not run', new UnsupportedModelError('x', { cause: new EngineError('y') }), false],
  ['a factorisation without memory', new NumericalError('x', { cause: new RangeError('allocation failed') }), false],
  ['a disk that cannot be read', new ModelFormatError('x', { cause: system('EIO') }), false],
  ['a file that became shorter', new ModelFormatError('x'), false],
  ['a tokenizer that took too long', new ModelFormatError('x', { cause: new EngineError('y') }), false],
  ['an engine that failed', new EngineError('x'), false],
  ['a full disk', new OptionError('x', { cause: system('ENOSPC') }), false],
  ['no memory', new RangeError('Array buffer allocation failed'), false],
  ['an abort', new DOMException('x', 'AbortError'), false],
  ['an error of a listener', 'text', false],
];

it.each(ERRORS)(
  'closes the workspace for good only after a deterministic error: %s',
  async (_, error, isDeterministic) => {
    expect(isDeterministicError(error)).toBe(isDeterministic);
    const closed: boolean[] = [];
    const close = async (isFinished: boolean) => void closed.push(isFinished);
    const openWorkspace = async () => ({ found: 'nothing', folder: 'out.partial', journal: undefined, close });
    const hash = { update: () => undefined, digest: () => 'key' };
    const context = {
      platform: { openWorkspace, createHash: () => hash },
      notes: [],
      remarks: [],
      timings: [],
    } as unknown as JobContext;
    const run = withJournal(context, { output: 'out', key: 'key', resume: true }, async () => {
      throw error;
    });
    await expect(run).rejects.toBe(error);
    expect(closed).toEqual([isDeterministic]);
  },
);
