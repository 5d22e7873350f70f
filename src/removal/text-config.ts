import { isRecord } from '../parse-json.js';

type Json = Readonly<Record<string, unknown>>;

/** Keys of the decoder's part in the config.json of a multimodal model. */
const TEXT_CONFIGS = ['text_config', 'llm_config', 'language_config'] as const;

/** The decoder's part of a multimodal model's config.json, and its key; undefined in other models. */
export function findTextConfig(config: Json): { readonly key: string; readonly part: Json } | undefined {
  const key = TEXT_CONFIGS.find((name) => isRecord(config[name]));
  return key && { key, part: config[key] as Json };
}
