/** Removed options by path, with the replacement. */
export const REMOVED_OPTIONS: Readonly<Record<string, string>> = {
  gradientPower: 'leave it out; it did not improve results',
  wideShare: 'leave it out; a smaller blockSize spends the same bytes better',
  skipBlocks: 'give these blocks the sparsity 0 in blockSparsity, such as { 0: 0, 1: 0 }',
  batchSize: 'leave it out; the library decides it',
  'calibration.generate.batchSize': 'leave it out; the library decides it',
  hiddenStates: 'leave it out; the library decides it',
  'heal.textShare': 'set heal.share, the fraction that the dense model generates: 1 - textShare',
  'heal.file': 'set calibration.generate.file, which saves the windows of healing too',
  maxNewTokens: 'it is called newTokens',
};

const inApi = (option: string, part: string) => `set it in the API, prune({ ${option}: { ${part} } })`;

/** Removed flags, with the replacement. */
export const REMOVED_FLAGS: Readonly<Record<string, string>> = {
  '--gradient-power': 'leave it out; it did not improve results',
  '--wide-share': 'leave it out; a smaller --block-size spends the same bytes better',
  '--skip-blocks': 'give these blocks the sparsity 0, such as --block-sparsity 0=0,1=0',
  '--batch-size': 'leave it out; the library decides it',
  '--heal-text': 'set --heal-share, the fraction that the dense model generates',
  '--heal-file': 'set --windows-file, which saves the windows of healing too',
  '--max-new-tokens': 'it is called --new-tokens',
  '--cluster-balance': inApi('grouping', 'clusterBalance'),
  '--features': inApi('grouping', 'features'),
  '--assignment': inApi('grouping', 'assignment'),
  '--no-shared-group': inApi('grouping', 'sharedGroup'),
  '--fit-count': inApi('grouping', 'fitCount'),
  '--weighting': inApi('weighting', 'variant'),
  '--temperature': inApi('weighting', 'temperature'),
  '--relative-temperature': inApi('weighting', 'temperature'),
  '--contexts': inApi('grouping', 'contextCount'),
  '--selection': inApi('calibration', 'selection'),
  '--sample-tokens': inApi('evaluation', 'newTokens'),
  '--text-windows': inApi('evaluation', 'windowCount'),
  '--fluctuation': 'set it in the API, prune({ fluctuation })',
  '--dampening': 'set it in the API, prune({ dampening })',
  '--input-steps': 'set it in the API, prune({ inputSteps })',
  '--expert-score': 'set it in the API, prune({ expertScore })',
  '--shots': 'set it in the API, prune({ shots })',
  '--report-paths': 'set it in the API, prune({ reportPaths })',
  '--heal-weights': `${inApi('heal', 'trained')}, or give it to the command heal`,
  '--heal-passes': `${inApi('heal', 'passCount')}, or give it to the command heal`,
  '--heal-batch': `${inApi('heal', 'windowsPerStep')}, or give it to the command heal`,
  '--heal-rate': `${inApi('heal', 'learningRate')}, or give it to the command heal`,
  '--symmetric': 'set it in the API, prune({ symmetric }), or give it to the command quantize',
  '--accuracy-level': 'set it in the API, prune({ accuracyLevel }), or give it to the command quantize',
};
