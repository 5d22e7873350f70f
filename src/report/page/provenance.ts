import { axisX, axisY, barX, gridX } from '@observablehq/plot';
import { formatBytes, formatCount, formatDuration } from '../format-quantity.js';
import type { JsonValue, PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, section, table } from './dom.js';
import { axisName, figure } from './figure.js';

/** Section with everything needed to repeat the run. */
export function provenanceSection(report: PruneReport): HTMLElement {
  const { calibration, environment = {}, timings, peakMemoryBytes, version, createdAt, model, out, sideFiles } = report;
  const facts: [string, string | undefined][] = [
    ['model', model],
    ['written to', out],
    ['copied files', sideFiles && (sideFiles.copied.join(', ') || 'nothing')],
    ['not copied', sideFiles && `${sideFiles.leftCount} files and folders`],
    ['fang-prune', version],
    ['ended', createdAt?.replace('T', ' ').replace(/\.\d+Z$/, ' UTC')],
    ...Object.entries(environment).map(([name, value]): [string, string] => [spaced(name), String(value)]),
    ['peak memory', peakMemoryBytes === undefined ? undefined : formatBytes(peakMemoryBytes)],
  ];
  const settings = Object.entries(report.settings).flatMap(([name, value]) => settingRows(spaced(name), value));
  const source = Object.entries({ ...calibration }).flatMap(([name, value]) =>
    settingRows(spaced(name), value as JsonValue),
  );
  return section(
    'how',
    'Run',
    timings.length > 0 && timingsFigure(report),
    h('h3', {}, 'Settings'),
    table('Settings', words('setting', 'value'), settings),
    h('h3', {}, 'Calibration text'),
    source.length === 0
      ? h('p', {}, 'This method reads no text.')
      : table('Calibration text', words('what', 'value'), source),
    h('h3', {}, 'Versions and machine'),
    table(
      'Versions and machine',
      words('what', 'value'),
      facts.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    ),
  );
}

/** `windowCount` -> `window count`. */
function spaced(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function settingRows(name: string, value: JsonValue | undefined): [string, string][] {
  if (typeof value !== 'object' || value === null) return [[name, String(value)]];
  if (Array.isArray(value)) return [[name, value.length === 0 ? 'none' : value.map((item) => show(item)).join(', ')]];
  const fields = Object.entries(value);
  if (fields.length === 0) return [[name, 'none']];
  return fields.flatMap(([field, item]) => settingRows(`${name}: ${spaced(field)}`, item));
}

const show = (value: JsonValue): string => (typeof value === 'object' ? JSON.stringify(value) : String(value));

function timingsFigure({ timings, calibration }: PruneReport): HTMLElement {
  const rows = [...timings].sort((one, other) => other.ms - one.ms);
  const total = rows.reduce((sum, { ms }) => sum + ms, 0);
  const tokens =
    calibration === undefined ? '' : ` for ${formatCount(calibration.windowCount * calibration.windowLength)} tokens`;
  const stages = [...new Set(rows.map(({ stage }) => stage))];
  return figure({
    caption: `Time by stage: ${formatDuration(total)} in all${tokens}.`,
    table: table(
      'Time by stage',
      [...words('stage'), ...numbers('time')],
      rows.map(({ stage, ms }) => [stage, formatDuration(ms)]),
    ),
    draw: (width) => ({
      height: 58 + 22 * stages.length,
      marginLeft: Math.min(width / 2, 16 + 7 * Math.max(...stages.map(({ length }) => length))),
      marginTop: 24,
      marginRight: 16,
      marginBottom: 34,
      x: { label: 'seconds' },
      y: { type: 'band', domain: stages, label: null, padding: 0.25 },
      marks: [
        gridX({ ticks: Math.max(2, Math.floor(width / 110)) }),
        axisX({ ticks: Math.max(2, Math.floor(width / 110)), label: 'seconds', labelAnchor: 'right' }),
        axisY({ tickSize: 0, ...axisName('stage') }),
        barX(rows, { x: ({ ms }) => ms / 1000, y: 'stage', fill: 'var(--muted)' }),
      ],
    }),
  });
}
