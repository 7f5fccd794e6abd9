// The section of docs/performance.md on GPUs: what the count of machine instructions allows, by arithmetic alone.
import type { Column } from './columns.js';
import { formatNumber, formatShare } from './figures.js';
import { escapeMarkdown, markdownTable } from './markdown-table.js';
import type { SassResult, SassRow } from './sass-result.js';

export interface Gpu {
  readonly name: string;
  /** 90 for sm_90. */
  readonly architecture: number;
  readonly multiprocessors: number;
  /** Peak of float32 outside tensor cores, in TFLOPS. */
  readonly teraflops: number;
  /** TB/s. */
  readonly bandwidth: number;
  /** Where these are from. */
  readonly source: string;
}

export const GPUS: readonly Gpu[] = [
  {
    name: 'H100 SXM',
    architecture: 90,
    multiprocessors: 132,
    teraflops: 67,
    bandwidth: 3.35,
    source: 'NVIDIA H100 data sheet; SMs: H100 architecture white paper',
  },
  {
    name: 'H200 SXM',
    architecture: 90,
    multiprocessors: 132,
    teraflops: 67,
    bandwidth: 4.8,
    source: 'NVIDIA H200 data sheet; SMs: as the H100, the same chip',
  },
  {
    name: 'B200',
    architecture: 100,
    multiprocessors: 148,
    teraflops: 75,
    bandwidth: 8,
    source: 'NVIDIA HGX B200 specifications, an eighth of them; SMs: from public device queries',
  },
  {
    name: 'RTX 5090',
    architecture: 120,
    multiprocessors: 170,
    teraflops: 104.8,
    bandwidth: 1.792,
    source: 'NVIDIA RTX Blackwell architecture white paper',
  },
];

const SCHEDULERS = 4; // of an SM, each of which issues one instruction for 32 lanes in a cycle
const LANES = 32;
const FLOPS_PER_LANE = 2; // a fused multiply-add counts twice
/** Of the cycles in which a scheduler could issue, those in which loops of this kind do. */
const USUAL_ISSUE = 0.65;
const BYTES: Readonly<Record<SassRow['dtype'], number>> = { bf16: 2, f16: 2, f32: 4 };

/** GHz. */
export function clock({ teraflops, multiprocessors }: Gpu): number {
  return (teraflops * 1e3) / (multiprocessors * SCHEDULERS * LANES * FLOPS_PER_LANE);
}

/** Instructions of one lane, in 10¹² a second. */
function lanesPerSecond(gpu: Gpu): number {
  return (gpu.multiprocessors * SCHEDULERS * LANES * clock(gpu)) / 1e3;
}

/** For how many instructions per element there is time while memory runs at full speed. */
export function budget(gpu: Gpu, { pass, dtype }: Pick<SassRow, 'pass' | 'dtype'>): number {
  const directions = pass.startsWith('forward') ? 1 : 2; // reads and writes
  const elements = gpu.bandwidth / (BYTES[dtype] * directions);
  return lanesPerSecond(gpu) / elements;
}

const perElement = ({ instructions, elements }: SassRow) => instructions / elements;

/** The share of memory speed that the count allows. */
export function reach(gpu: Gpu, row: SassRow, issue: number): number {
  return Math.min(1, (budget(gpu, row) * issue) / perElement(row));
}

const kernel = { header: 'kernel', cell: ({ pass, dtype }: SassRow) => `${pass} ${dtype}` };
const instructions = { header: 'instructions', cell: (row: SassRow) => perElement(row).toFixed(2), numeric: true };

const codeColumns: readonly Column<SassRow>[] = [
  { header: 'architecture', cell: ({ architecture }) => `sm_${architecture}` },
  kernel,
  instructions,
  { header: 'at most', cell: ({ limit }) => `${limit}`, numeric: true },
  { header: 'registers', cell: ({ registers }) => `${registers}`, numeric: true },
  { header: 'shared bytes', cell: ({ shared }) => `${shared}`, numeric: true },
  { header: 'threads', cell: ({ threads }) => `${threads}`, numeric: true },
  { header: 'blocks per SM', cell: ({ residentBlocks }) => `${residentBlocks}`, numeric: true },
  {
    header: 'KiB in flight per SM',
    cell: ({ loadBytes, threads, residentBlocks }) => `${(loadBytes * threads * residentBlocks) / 1024}`,
    numeric: true,
  },
];

const gpuColumns: readonly Column<Gpu>[] = [
  { header: 'GPU', cell: ({ name }) => name },
  { header: 'architecture', cell: ({ architecture }) => `sm_${architecture}` },
  { header: 'SMs', cell: ({ multiprocessors }) => `${multiprocessors}`, numeric: true },
  { header: 'float32 TFLOPS', cell: ({ teraflops }) => `${teraflops}`, numeric: true },
  { header: 'clock, GHz', cell: (gpu) => clock(gpu).toFixed(2), numeric: true },
  { header: '10¹² instructions/s', cell: (gpu) => formatNumber(lanesPerSecond(gpu)), numeric: true },
  { header: 'memory, TB/s', cell: ({ bandwidth }) => `${bandwidth}`, numeric: true },
  { header: 'source', cell: ({ source }) => source },
];

interface Prediction extends SassRow {
  readonly gpu: Gpu;
}

const predictionColumns: readonly Column<Prediction>[] = [
  { header: 'GPU', cell: ({ gpu }) => gpu.name },
  kernel,
  { header: 'budget', cell: (row) => formatNumber(budget(row.gpu, row)), numeric: true },
  instructions,
  { header: 'reach, perfect issue', cell: (row) => formatShare(reach(row.gpu, row, 1)), numeric: true },
  {
    header: `reach, ${USUAL_ISSUE} of it`,
    cell: (row) => formatShare(reach(row.gpu, row, USUAL_ISSUE)),
    numeric: true,
  },
];

/** `file`: where the result is, from the root. */
export function predictedSection({ rows, nvcc, git }: SassResult, file: string): string[] {
  const commit = git.commit === null ? '' : ` (commit ${git.commit.slice(0, 12)}${git.dirty ? ', changed' : ''})`;
  const predictions = GPUS.flatMap((gpu) =>
    rows.filter(({ architecture }) => architecture === gpu.architecture).map((row): Prediction => ({ ...row, gpu })),
  );
  return [
    '## GPUs: predicted, not measured',
    'No GPU has run these kernels. What follows is arithmetic: machine instructions that were counted, and figures of data sheets.',
    `\`npm run check:sass\` compiled the token-level kernels${commit} with nvcc ${escapeMarkdown(nvcc)} and counted the instructions of each hot loop, all of its body, for each element, of both loops where one pass reads a row and then writes it (\`${file}\`). It fails above \`at most\`. Blocks per SM follow from registers and shared memory by the rules of cuda_occupancy.h; in flight are the loads of one iteration of all threads that an SM holds.`,
    markdownTable(codeColumns, rows),
    `An SM has ${SCHEDULERS} schedulers, each of which issues one instruction for ${LANES} lanes in a cycle. The clock is the one at which the data sheet's float32 peak is reached, TFLOPS ÷ (SMs × ${SCHEDULERS * LANES} lanes × ${FLOPS_PER_LANE}): the highest, which a chip need not keep up under load.`,
    markdownTable(gpuColumns, GPUS),
    `\`budget\` is the number of instructions per element for which there is time while memory moves at the data sheet's speed: forward reads an element, backward reads and writes one, and so does one pass, which has the instructions of both. \`reach\` is the share of that speed which the count allows, if a scheduler issues in every cycle, and if it does in ${USUAL_ISSUE} of them, a usual share. Latencies, the rate of exponentials and what memory itself falls short of its data sheet are not in it.`,
    markdownTable(predictionColumns, predictions),
  ];
}
