import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { HubSettings } from '../runtime/hub-store.js';
import { VERSION } from '../version.js';

/** Environment variables of the Hub's clients. */
export type HubEnvironment = Readonly<Record<string, string | undefined>>;

const ENDPOINT = 'https://huggingface.co';

/** Settings of the Hub from environment variables and the token file. @see HubSettings */
export function readHubSettings(env: HubEnvironment): HubSettings {
  const token = (env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN ?? readToken(env)).trim();
  return {
    endpoint: (env.HF_ENDPOINT || ENDPOINT).replace(/\/+$/, ''),
    offline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? ''),
    agent: `fang-prune/${VERSION}`,
    names: { endpoint: 'HF_ENDPOINT', token: 'HF_TOKEN' },
    ...(token !== '' && { token }),
  };
}

/** Cache folder of the Hub's clients. */
export function hubCacheFolder(env: HubEnvironment): string {
  return env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(homeOf(env), 'hub');
}

const homeOf = (env: HubEnvironment): string =>
  env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');

function readToken(env: HubEnvironment): string {
  try {
    return readFileSync(env.HF_TOKEN_PATH || join(homeOf(env), 'token'), 'utf8');
  } catch {
    return '';
  }
}
