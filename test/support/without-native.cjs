/** Preload that makes a process fail to find onnxruntime-node. */
const Module = require('node:module');

const resolve = Module._resolveFilename;
Module._resolveFilename = function resolveOthers(request, ...rest) {
  if (request === 'onnxruntime-node') throw new Error(`Cannot find module '${request}'`);
  return resolve.call(this, request, ...rest);
};
