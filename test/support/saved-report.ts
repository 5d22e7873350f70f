import { nodePlatform } from '../../src/node/node-platform.js';
import type { PruneReport } from '../../src/report/report-schema.js';
import { publicReport } from '../../src/storage/write-report.js';

/** What a report's file holds of the one that a call returned. */
export const savedReport = (report: PruneReport): unknown =>
  JSON.parse(JSON.stringify(publicReport(nodePlatform.files, report)));
