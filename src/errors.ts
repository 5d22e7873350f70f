import { printableMessage } from './printable.js';

/** Base class of this library's errors; `code` is stable and machine-readable. Names in messages are escaped. */
export abstract class FangPruneError extends Error {
  abstract readonly code: string;

  constructor(message: string, options?: ErrorOptions) {
    super(printableMessage(message), options);
    this.name = new.target.name;
  }
}

/** An option, argument or calibration text is out of range. Remedy: change the call. */
export class OptionError extends FangPruneError {
  readonly code = 'ERR_OPTION';
  /** Path of the invalid option, if known, such as `calibration.windowCount`. */
  readonly option: string | undefined;

  constructor(message: string, { option, ...options }: ErrorOptions & { readonly option?: string | undefined } = {}) {
    super(message, options);
    this.option = option;
  }
}

/** A file violates its format (truncated, wrong lengths, missing external data). Remedy: get the file again. */
export class ModelFormatError extends FangPruneError {
  readonly code = 'ERR_MODEL_FORMAT';
}

/** A valid model that this library does not support. Remedy: another export, fewer modules, or a new row in the operator table. */
export class UnsupportedModelError extends FangPruneError {
  readonly code = 'ERR_UNSUPPORTED_MODEL';
}

/** Numerical failure (NaN weights, a singular matrix). Remedy: check the weights or raise the dampening. */
export class NumericalError extends FangPruneError {
  readonly code = 'ERR_NUMERICAL';
}

/** ONNX Runtime could not start, load or run a model. Remedy: another execution provider, or an issue about the named node. */
export class EngineError extends FangPruneError {
  readonly code = 'ERR_ENGINE';
}

/** The Hugging Face Hub cannot be reached, or refuses a request. Remedy: check the name, the token, the connection. */
export class HubError extends FangPruneError {
  readonly code = 'ERR_HUB';
  /** HTTP status of the response; undefined without a response. */
  readonly status: number | undefined;

  constructor(message: string, { status, ...options }: ErrorOptions & { readonly status?: number | undefined } = {}) {
    super(message, options);
    this.status = status;
  }
}
