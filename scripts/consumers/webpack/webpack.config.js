export default {
  mode: 'production',
  entry: './main.js',
  experiments: { topLevelAwait: true, outputModule: true },
  output: { module: true, filename: 'main.js', path: `${import.meta.dirname}/built` },
};
