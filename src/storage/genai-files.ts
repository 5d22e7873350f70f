import { normaliseRelativePath } from '../onnx/relative-path.js';
import type { JsonObject } from './read-json.js';

/** Depth to which `genai_config.json` is searched for files; it has five levels. */
const MAX_DEPTH = 12;

/** Further models and configuration files that `genai_config.json` names. */
export function filesOfGenai(model: unknown, depth = 0): readonly string[] {
  if (typeof model !== 'object' || model === null || depth > MAX_DEPTH) return [];
  return Object.entries(model as JsonObject).flatMap(([key, value]) => {
    if (typeof value !== 'string') return filesOfGenai(value, depth + 1);
    const inside = GENAI_FILES.get(key)?.test(value) ? normaliseRelativePath(value) : undefined;
    return inside === undefined ? [] : [inside];
  });
}

/** Allowed file names by key: an untrusted `genai_config.json` may name any file. */
const GENAI_FILES: ReadonlyMap<string, RegExp> = new Map([
  ['filename', /\.onnx$/],
  ['adapter_filename', /\.onnx_adapter$/],
  ['config_filename', /(process|extract)[\w-]*\.json$/],
]);
