import { guardListener } from '../../src/pipeline/guard-listener.js';

const PROGRESS = { stage: 'measure', done: 1, total: 2 };

describe('guardListener', () => {
  it('aborts the job with what the listener throws', () => {
    const error = new Error('the page was closed');
    const { onProgress, signal } = guardListener({
      onProgress: () => {
        throw error;
      },
    });
    expect(() => onProgress!(PROGRESS)).toThrow(error);
    expect(signal.reason).toBe(error);
  });

  it('aborts the job with what the promise of an async listener rejects with', async () => {
    const error = new Error('the log is full');
    const { onProgress, signal } = guardListener({ onProgress: () => Promise.reject(error) });
    onProgress!(PROGRESS);
    await new Promise(setImmediate);
    expect(signal.reason).toBe(error);
    expect(() => onProgress!(PROGRESS)).toThrow(error);
  });

  it("follows the caller's signal until it is released", () => {
    const [caller, other] = [new AbortController(), new AbortController()];
    const followed = guardListener({ signal: caller.signal });
    const released = guardListener({ signal: other.signal });
    released.release();
    for (const one of [caller, other]) one.abort(new Error('enough'));
    expect([followed.signal.aborted, released.signal.aborted]).toEqual([true, false]);
  });
});
