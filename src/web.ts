/**
 * The browser entry: all stages, and runs of them on a platform that `createWebPlatform` makes of the folders that a page has:
 * maps of bytes, chosen files, directory handles.
 */
export * from './index.js';
export * from './pipeline/calls.js';
export type { DirectoryHandle, FileHandle } from './platform/web/handle-folder.js';
export type { ChosenFile, WebPlace } from './platform/web/web-place.js';
export { createWebPlatform, type WebPlatformOptions } from './platform/web/web-platform.js';
