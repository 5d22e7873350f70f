import { errorMessage } from '../error-message.js';
import { OptionError } from '../errors.js';

/** Runs a writing action. @throws OptionError with the system's message and advice */
export async function writing<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (cause instanceof OptionError) throw cause;
    throw new OptionError(`Cannot write ${path}: ${errorMessage(cause)}. ${adviceFor(cause)}`, { cause });
  }
}

const MAKE_ROOM = 'Make room or choose another place.';
const PERMIT = 'Allow this user to write there, or choose another place.';
const ANOTHER_PLACE = 'Choose another place.';

/** Advice for file system errors, by code, or by name in browsers. */
const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: MAKE_ROOM,
  QuotaExceededError: MAKE_ROOM,
  EDQUOT: 'The disk quota is used up: free some of it, or choose another place.',
  EFBIG: 'The file system, or the limit of this process (ulimit -f), takes no file of this size. Choose another place.',
  EACCES: PERMIT,
  EPERM: PERMIT,
  NotAllowedError: PERMIT,
  EROFS: 'The file system is mounted read-only. Choose another place.',
  EBUSY: 'The system or another program uses it. End that program, or choose another place.',
  ETXTBSY: 'Another program runs it. End that program, or choose another place.',
  NoModificationAllowedError: 'Another page or program uses it. Close that, or choose another place.',
  ENAMETOOLONG: 'Shorten the name.',
  EMFILE: 'Too many files are open: raise the limit of this process (ulimit -n).',
  ENFILE: 'Too many files are open on this machine. Close some programs.',
  EIO: 'The disk, or the connection to it, fails. Check it, or choose another place.',
  ESTALE: 'The connection to the disk was lost. Mount it again, or choose another place.',
};

/** Advice for a file system error. */
export function adviceFor(cause: unknown): string {
  const { code, name } = Object(cause) as { readonly code?: unknown; readonly name?: unknown };
  return ADVICE[String(code)] ?? ADVICE[String(name)] ?? ANOTHER_PLACE;
}
