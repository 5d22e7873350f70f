import type { ModuleKind } from '../architecture/layout.js';
import type { ModuleReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import { formatTable } from './format-table.js';
import { groupBlocks } from './group-blocks.js';

/** A table of widths before and after; neighbouring blocks with equal widths share a row. */
export function formatModules(
  modules: readonly Pick<ModuleReport, 'block' | 'kind' | 'unitsBefore' | 'unitsAfter' | 'neurons'>[],
): string {
  const kinds = [...new Set(modules.map(({ kind }) => kind))];
  const blocks = [...new Set(modules.map(({ block }) => block))];
  const cell = (block: number, kind: string) => {
    const found = modules.find((module) => module.block === block && module.kind === kind);
    if (found === undefined) return '';
    const { unitsBefore, unitsAfter, neurons } = found;
    return `${unitsBefore} -> ${unitsAfter}${neurons ? `, neurons ${neurons.before} -> ${neurons.after}` : ''}`;
  };
  const runs = groupBlocks(
    blocks,
    blocks.map((block) => kinds.map((kind) => cell(block, kind))),
  );
  return formatTable(
    [...words('block'), ...numbers(...kinds.map((kind) => UNIT_HEADINGS[kind]))],
    runs.map(({ name, value }) => [name, ...value]),
  );
}

const UNIT_HEADINGS = {
  ffn: 'ffn neurons',
  attention: 'attention heads',
  experts: 'experts',
} as const satisfies Record<ModuleKind, string>;
