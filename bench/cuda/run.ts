// Measures the kernels on a GPU, then PyTorch on the same one, and gathers the report.
import { collectGarbage, describeMachine, describePackage } from '../machine.js';
import { LOGIT_DEVIATION } from '../problems/data.js';
import { type Cuda, openCuda } from './device.js';
import { type CudaLossRow, measureLosses } from './losses.js';
import { commitOfRun, type DeviceDescription } from './machine.js';
import { createCudaProblem, disposeProblem } from './problem.js';
import type { CudaSettings, CudaShape } from './settings.js';
import { measureSmallOps, type SmallResult } from './small-ops.js';
import { type CudaRow, measureRows, tokenLevelContenders } from './token-level.js';
import { measureTorch, type PeerReport, type PeerShape } from './torch.js';

/** What a user of both directions waits for, added up. */
interface BothDirections {
  readonly milliseconds: number;
  readonly gigabytesPerSecond: number;
}

export interface ShapeResult {
  readonly shape: CudaShape;
  readonly rows: CudaRow[];
  readonly forwardAndBackward: BothDirections;
  readonly losses: CudaLossRow[];
}

/** Hears of each part as it begins and ends. */
export interface CudaListener {
  starting(part: CudaShape | 'peers'): void;
  measuredShape(result: ShapeResult): void;
  measuredSmall(result: SmallResult): void;
  measuredPeers(result: PeerShape): void;
}

function bothDirections(rows: readonly CudaRow[], bytes: number): BothDirections {
  const at = (name: string) => rows.find(({ op }) => op === name)?.milliseconds.median ?? Number.NaN;
  const milliseconds = at('forward') + at('backward in place');
  return { milliseconds, gigabytesPerSecond: (3 * bytes) / (milliseconds / 1e3) / 1e9 }; // 2R + 1W
}

async function measureShape(
  cuda: Cuda,
  shape: CudaShape,
  { seed, inner, repeats }: CudaSettings,
): Promise<ShapeResult> {
  const problem = createCudaProblem(cuda, shape, seed);
  try {
    const rows = await measureRows(tokenLevelContenders(cuda, problem, inner), repeats);
    const losses = await measureLosses(cuda, problem, repeats);
    return { shape, rows, forwardAndBackward: bothDirections(rows, problem.bytes), losses };
  } finally {
    disposeProblem(problem); // before the next shape's, which may be gigabytes too
  }
}

async function measureOwn(settings: CudaSettings, listener: CudaListener) {
  const cuda = openCuda();
  const tokenLevel: ShapeResult[] = [];
  for (const shape of settings.shapes) {
    listener.starting(shape);
    const result = await measureShape(cuda, shape, settings);
    listener.measuredShape(result);
    tokenLevel.push(result);
  }
  const smallOps: SmallResult[] = [];
  for (const shape of settings.small) {
    const result = await measureSmallOps(cuda, shape, settings);
    listener.measuredSmall(result);
    smallOps.push(result);
  }
  cuda.device.dispose();
  return { tokenLevel, smallOps };
}

async function measurePeers(settings: CudaSettings, emulated: boolean, listener: CudaListener): Promise<PeerReport> {
  if (!settings.peers || settings.shapes.length === 0) return { versions: {}, reason: 'not asked for', results: [] };
  listener.starting('peers');
  return measureTorch(settings, emulated ? 'cpu' : 'cuda', listener.measuredPeers);
}

/** The report, as it is written to a file. */
export async function runCudaBench(
  settings: CudaSettings,
  { emulated, ...device }: DeviceDescription,
  listener: CudaListener,
) {
  const date = new Date().toISOString();
  const own = await measureOwn(settings, listener);
  await collectGarbage();
  const peers = await measurePeers(settings, emulated, listener);
  const { repeats, inner, smallInner, seed } = settings;
  return {
    benchmark: 'cuda',
    ...(emulated && { emulated }),
    date,
    device,
    machine: describeMachine(),
    node: process.version,
    package: describePackage(),
    git: commitOfRun(),
    settings: { repeats, inner, smallInner, seed, logits: `normal, deviation ${LOGIT_DEVIATION}` },
    ...own,
    peers,
  };
}
