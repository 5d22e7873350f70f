import { EngineError, OptionError, UnsupportedModelError } from '../../src/errors.js';
import { reviveError, toSentError } from '../../src/pipeline/revive-error.js';

const sendOver = (error: unknown) => reviveError(structuredClone(toSentError(error)));

it('has class, message, option and stack of the error in the other process', () => {
  const error = new OptionError('sparsity is 2', { option: 'sparsity' });
  const { stack } = error;
  expect(sendOver(error)).toBeInstanceOf(OptionError);
  expect(sendOver(error)).toMatchObject({ message: 'sparsity is 2', option: 'sparsity', stack });
});

it('has the causes of the error, which --verbose shows', () => {
  const engine = new EngineError('cannot load', { cause: new RangeError('of ONNX Runtime') });
  const sent = sendOver(new UnsupportedModelError('cannot run', { cause: engine }));
  expect(sent.cause).toBeInstanceOf(EngineError);
  expect(sent.cause).toMatchObject({ message: 'cannot load', cause: { message: 'of ONNX Runtime' } });
});
