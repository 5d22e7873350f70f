import type { ModelLayout } from '../architecture/layout.js';
import { sha256 } from '../calibration/sha256.js';

/** Hashes of the model that a file was created from, so that other models are refused. */
export interface ModelOrigin {
  /** SHA-256 of the dense model file and its external data, one after the other. */
  readonly sha256: string;
  /** SHA-256 of the layout that the library recognised, see `layoutFingerprint`. */
  readonly layout: string;
}

/** SHA-256 of the modules that indices in a file refer to: another version of the library may detect other modules. */
export function layoutFingerprint({ modules }: ModelLayout): Promise<string> {
  const described = modules.map(({ block, kind, unitCount, unitSize, groupCount, output }) => {
    const { node, inputAxis, inputCount, outputCount } = output;
    return [block, kind, unitCount, unitSize, groupCount ?? 0, node, inputAxis, inputCount, outputCount];
  });
  return sha256(JSON.stringify(described));
}
