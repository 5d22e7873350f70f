import type { Journal } from '../../src/runtime/journal.js';
import type { Platform } from '../../src/runtime/platform.js';

/** A journal that saves every checkpoint. */
const eager = (journal: Journal): Journal => ({
  ...journal,
  shouldCheckpoint: () => true,
  within: (scope) => eager(journal.within(scope)),
});

/** A platform whose journals save every checkpoint. */
export const eagerPlatform = (platform: Platform): Platform => ({
  ...platform,
  async openWorkspace(request) {
    const workspace = await platform.openWorkspace!(request);
    return workspace && { ...workspace, journal: eager(workspace.journal) };
  },
});
