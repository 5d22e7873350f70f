import type { HubLimits } from '../platform/hub-store.js';

/** What is waited for at most. The slowest lines that models are downloaded on bring some 2 kB a second. */
export const HUB_LIMITS: HubLimits = {
  answerMs: 30_000,
  paceMs: 30_000,
  paceBytes: 16 * 1024,
  listingMs: 10 * 60_000,
  listingPages: 200,
  retryMs: 1000,
  retryWaitMs: 5 * 60_000,
};
