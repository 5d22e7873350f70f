import { isRecord } from '../parse-json.js';

type Json = Readonly<Record<string, unknown>>;

/** Where the configuration of a model with images or sounds keeps what is its decoder's. */
const TEXT_CONFIGS = ['text_config', 'llm_config', 'language_config'] as const;

/** The part of a config.json that is about the decoder, and its key; undefined where the entire is. */
export function findTextConfig(config: Json): { readonly key: string; readonly part: Json } | undefined {
  const key = TEXT_CONFIGS.find((name) => isRecord(config[name]));
  return key && { key, part: config[key] as Json };
}
