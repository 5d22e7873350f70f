import { printableMessage } from './printable.js';

/** Base of every error this library throws on purpose; `code` is stable and machine readable. Names in messages are escaped. */
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
  /** Path of the option at fault where it is known, such as `calibration.windowCount`. */
  readonly option: string | undefined;

  constructor(message: string, { option, ...options }: ErrorOptions & { readonly option?: string | undefined } = {}) {
    super(message, options);
    this.option = option;
  }
}

/** Bytes are not what the format promises (truncated, lying lengths, missing side files). Remedy: get the file again. */
export class ModelFormatError extends FangPruneError {
  readonly code = 'ERR_MODEL_FORMAT';
}

/** A sound model that this library cannot prune (yet). Remedy: another export, fewer modules, or a new table row. */
export class UnsupportedModelError extends FangPruneError {
  readonly code = 'ERR_UNSUPPORTED_MODEL';
}

/** Numerical failure (NaN weights, a singular matrix). Remedy: check the weights or raise the dampening. */
export class NumericalError extends FangPruneError {
  readonly code = 'ERR_NUMERICAL';
}

/** ONNX Runtime could not start, load or run. Remedy: another execution provider, or report the node it names. */
export class EngineError extends FangPruneError {
  readonly code = 'ERR_ENGINE';
}

/** The Hugging Face Hub cannot be reached, or does not give what was asked for. Remedy: the name, the token, the connection. */
export class HubError extends FangPruneError {
  readonly code = 'ERR_HUB';
  /** HTTP status of its answer; undefined where it did not answer. */
  readonly status: number | undefined;

  constructor(message: string, { status, ...options }: ErrorOptions & { readonly status?: number | undefined } = {}) {
    super(message, options);
    this.status = status;
  }
}
