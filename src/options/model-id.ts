import { DTYPES, type DtypeName } from '../quantisation/dtypes.js';

/** A model on the Hugging Face Hub, as users write it: `org/name`, `org/name@revision`, `org/name:dtype`. */
export interface ModelId {
  /** Such as `HuggingFaceTB/SmolLM2-135M-Instruct`. */
  readonly repo: string;
  /** Branch, tag, or full commit hash. */
  readonly revision: string;
  /** Dtype of the model file; undefined: the default file, else the most precise one. */
  readonly dtype: DtypeName | undefined;
}

/** Default branch. */
const MAIN = 'main';
/** Longest name of an account or a model on the Hub. */
const MAX_NAME_LENGTH = 96;
/** Characters that the Hub allows in names; `isRepoName` also refuses names with a file extension. */
const NAME = /^[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?$/;
const REVISION = /^[A-Za-z0-9_][\w.+-]*(?:\/[A-Za-z0-9_][\w.+-]*)*$/;
const COMMIT = /^[0-9a-f]{40}$/;

/** Parses a model id. @returns undefined for texts that cannot be one, such as paths */
export function parseModelId(text: string): ModelId | undefined {
  const [, named = '', revision = MAIN, dtype] = /^([^@:]+)(?:@([^:]+))?(?::(\w+))?$/.exec(text) ?? [];
  const isDtype = (name: string): name is DtypeName => Object.hasOwn(DTYPES, name);
  if (!isRepoName(named) || !isRevision(revision) || (dtype !== undefined && !isDtype(dtype))) return undefined;
  return { repo: named, revision, dtype };
}

/** Whether a text is the name of a repository, `org/name`. */
export function isRepoName(text: string): boolean {
  const names = text.split('/');
  return names.length === 2 && names.every(isName) && !/\.(?:git|onnx|json)$/i.test(text);
}

/** Whether a revision is a full commit hash, which is immutable. */
export const isCommit = (revision: string): boolean => COMMIT.test(revision);

const isName = (name: string): boolean =>
  name.length <= MAX_NAME_LENGTH && NAME.test(name) && !name.includes('..') && !name.includes('--');

/** Whether a text can be the name of a branch or tag. */
export const isRevision = (revision: string): boolean =>
  revision.length <= 256 && REVISION.test(revision) && !revision.includes('..');
