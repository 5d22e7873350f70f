import { nodePlatform } from '../../src/node/node-platform.js';
import type { PruneReport } from '../../src/report/report-schema.js';
import { publicReport } from '../../src/storage/write-report.js';

/** A returned report as it is saved to its file. */
export const savedReport = (report: PruneReport): unknown =>
  JSON.parse(JSON.stringify(publicReport(nodePlatform.files, report)));
