// The most memory that an op from hidden states takes, measured in a process of its own that does nothing else.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { BackendName, DType } from '../../lib/index.js';
import type { LinearShape } from '../problems/linear.js';
import type { LinearOpName } from './linear-ops.js';

export interface PeakQuestion {
  readonly op: LinearOpName;
  readonly dtype: DType;
  readonly backend: BackendName;
  readonly shape: LinearShape;
}

const PROCESS = fileURLToPath(new URL('linear-peak-process.js', import.meta.url));

/** In bytes, beside the inputs. Only Linux says how much memory a process ever had. */
export async function peakOfOp(question: PeakQuestion): Promise<number | undefined> {
  if (process.platform !== 'linux') return undefined;
  const { stdout } = await promisify(execFile)(process.execPath, [PROCESS, JSON.stringify(question)]);
  return Number(stdout);
}
