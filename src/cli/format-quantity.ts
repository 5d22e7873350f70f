export * from '../report/format-quantity.js';
