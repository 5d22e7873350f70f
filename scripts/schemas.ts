/** Writes schema/*.json, the JSON Schema of report, recipe and statistics: `npm run schemas`. */
import { writeFileSync } from 'node:fs';
import { formatSchemas } from './schemas/format-schemas.js';

for (const [file, content] of formatSchemas()) writeFileSync(file, content);
