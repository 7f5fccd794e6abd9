// The GPU's figures as text. Times on a GPU vary little, so that they have a digit more than those of the cpu.

import type { CudaLossRow } from '../../bench/cuda/losses.js';
import type { ShapeResult } from '../../bench/cuda/run.js';
import type { CudaShape } from '../../bench/cuda/settings.js';
import type { SmallResult, SmallRow } from '../../bench/cuda/small-ops.js';
import type { CudaRow } from '../../bench/cuda/token-level.js';
import type { PeerShape } from '../../bench/cuda/torch.js';
import type { Column } from '../../bench/report/columns.js';
import { formatError, formatNumber, formatShape, formatShare, formatSpread } from '../../bench/report/figures.js';
import type { Spread } from '../../bench/report/report.js';
import { renderColumns } from '../bench/table.js';

const DIGITS = 4;
const MAX_WIDTH = 40; // of a peer's op

interface Timed {
  readonly milliseconds: Spread;
  readonly gigabytesPerSecond: number;
}

function spreadColumns<Row>(unit: string, spreadOf: (row: Row) => Spread): Column<Row>[] {
  return [
    { header: unit, cell: (row) => formatNumber(spreadOf(row).median, DIGITS), numeric: true },
    { header: 'p10 p90', cell: (row) => formatSpread(spreadOf(row), 1), numeric: true },
  ];
}

const TIMED: readonly Column<Timed>[] = [
  ...spreadColumns('ms', ({ milliseconds }: Timed) => milliseconds),
  { header: 'GB/s', cell: (row) => formatNumber(row.gigabytesPerSecond, DIGITS), numeric: true },
];
const ERROR: Column<{ readonly error: number | null }> = {
  header: 'error',
  cell: ({ error }) => formatError(error),
  numeric: true,
};

const ROWS: readonly Column<CudaRow>[] = [
  { header: 'by', cell: ({ by }) => by },
  { header: 'op', cell: ({ op }) => op },
  ...TIMED,
  { header: 'of copy', cell: ({ percentOfCopy }) => formatShare(percentOfCopy / 100, 1), numeric: true },
  ERROR,
];
const LOSSES: readonly Column<CudaLossRow>[] = [
  {
    header: 'loss with its gradient in place, wall time',
    cell: ({ op, sequences, groups }) => `${op}, N=${sequences}, G=${groups}`,
  },
  ...TIMED,
  ERROR,
];

export const cudaShapeName = (shape: CudaShape) => `${formatShape(shape)}, ${shape.dtype}`;

const renderRows = (rows: readonly CudaRow[]) => renderColumns(ROWS, rows, MAX_WIDTH);

export function renderShape({ shape, rows, forwardAndBackward, losses }: ShapeResult): string {
  const [milliseconds, rate] = [forwardAndBackward.milliseconds, forwardAndBackward.gigabytesPerSecond].map((value) =>
    formatNumber(value, DIGITS),
  );
  return [
    `${cudaShapeName(shape)}\n\n${renderRows(rows)}`,
    `forward + backward in place, added up: ${milliseconds} ms, ${rate} GB/s\n\n${renderColumns(LOSSES, losses)}`,
  ].join('\n');
}

export function renderSmall({ shape: { sequences, tokens }, rows }: SmallResult): string {
  const columns: readonly Column<SmallRow>[] = [
    { header: formatShape({ tokens, sequences }), cell: ({ op }) => op },
    ...spreadColumns('us launched', ({ launched }: SmallRow) => launched),
    ...spreadColumns('us in a graph', ({ graph }: SmallRow) => graph),
    ERROR,
  ];
  return renderColumns(columns, rows, MAX_WIDTH);
}

export function renderPeers({ shape, rows, skipped }: PeerShape): string {
  const table = rows.length > 0 ? renderRows(rows) : 'none';
  const reasons = skipped.map(({ op, reason }) => `not run: ${op}: ${reason}`);
  return [`Peers, ${cudaShapeName(shape)}\n\n${table}`, ...reasons].join('\n');
}
