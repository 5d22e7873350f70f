/**
 * The part of an ONNX Runtime package that the engine uses, in onnxruntime-node and onnxruntime-web from 1.21 on. The
 * packages' own typings would need those of a browser.
 */
export interface OrtModule {
  readonly InferenceSession: {
    /** From 1.22 on it has `inputMetadata`. */
    readonly prototype?: object;
    create(path: string, options?: OrtSessionOptions): Promise<OrtSession>;
    create(model: Uint8Array, options?: OrtSessionOptions): Promise<OrtSession>;
  };
  /** Arguments: name of the type, elements, dims. */
  readonly Tensor: new (
    type: never,
    data: never,
    dims: readonly number[],
  ) => OrtTensor;
  readonly env?: { readonly versions: { readonly node?: string; readonly web?: string; readonly common?: string } };
}

export interface OrtSessionOptions {
  executionProviders?: readonly string[];
  graphOptimizationLevel?: 'disabled' | 'basic' | 'all';
  enableCpuMemArena?: boolean;
  enableMemPattern?: boolean;
  logSeverityLevel?: 0 | 1 | 2 | 3 | 4;
  intraOpNumThreads?: number;
  extra?: Record<string, unknown>;
  externalData?: readonly { readonly path: string; readonly data: Uint8Array }[];
}

export interface OrtSession {
  readonly inputMetadata?: readonly OrtValueMetadata[];
  readonly outputMetadata?: readonly OrtValueMetadata[];
  run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Readonly<Record<string, OrtTensor>>>;
  run(
    feeds: Readonly<Record<string, OrtTensor>>,
    fetches: readonly string[],
  ): Promise<Readonly<Record<string, OrtTensor>>>;
  release(): Promise<void>;
}

export type OrtValueMetadata =
  | { readonly name: string; readonly isTensor: false }
  | {
      readonly name: string;
      readonly isTensor: true;
      readonly type: string;
      readonly shape: readonly (number | string)[];
    };

export interface OrtTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

/** Version of the package, if known. */
export function ortVersion({ env }: OrtModule): string | undefined {
  return env?.versions.node ?? env?.versions.web ?? env?.versions.common;
}

/** Earlier versions do not support external data in memory. */
const FIRST_MINOR = 21;

/** The reason why a version is too old; undefined if it is not. */
export function findTooOld(version: string | undefined): string | undefined {
  const [major, minor] = (version ?? '').split('.').map(Number);
  return major === 1 && minor! < FIRST_MINOR ? `it is ${version}, and 1.${FIRST_MINOR} or newer is needed` : undefined;
}
