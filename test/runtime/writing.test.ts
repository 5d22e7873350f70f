import { OptionError } from '../../src/errors.js';
import { writing } from '../../src/runtime/writing.js';

const failing = (fields: object) =>
  writing('/x/y', () => Promise.reject(Object.assign(new Error('it said no'), fields)));

it.each([
  [{ code: 'ENOSPC' }, 'Make room or choose another place.'],
  [{ code: 'EDQUOT' }, 'quota'],
  [{ code: 'EACCES' }, 'Allow this user to write there'],
  [{ code: 'EPERM' }, 'Allow this user to write there'],
  [{ code: 'EROFS' }, 'read-only'],
  [{ code: 'EBUSY' }, 'uses it'],
  [{ code: 'ENAMETOOLONG' }, 'Shorten the name'],
  [{ code: 'EFBIG' }, 'takes no file of this size'],
  [{ code: 'EMFILE' }, 'ulimit -n'],
  [{ name: 'QuotaExceededError' }, 'Make room'],
  [{ code: 'EWHATEVER' }, 'it said no. Choose another place.'],
])('advises what to do about %j', async (cause, advice) => {
  await expect(failing(cause)).rejects.toThrow(OptionError);
  await expect(failing(cause)).rejects.toThrow(/^Cannot write \/x\/y: it said no\. /);
  await expect(failing(cause)).rejects.toThrow(advice);
  if (!advice.includes('Make room')) await expect(failing(cause)).rejects.not.toThrow('Make room');
});
