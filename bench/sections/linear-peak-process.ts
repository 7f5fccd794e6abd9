// The process that linear-peak.ts starts: makes inputs, calls an op once with new arrays for its gradients, and prints by how many
// bytes that raised the most memory that it ever had.
import { readFileSync } from 'node:fs';
import { benchAddon } from '../problems/addon.js';
import { roundTo } from '../problems/data.js';
import { zeros } from '../problems/linear.js';
import { LOSS_LENGTHS, rolloutsOfTokens } from '../problems/rollouts.js';
import { LINEAR_OPS, type LinearOp } from './linear-ops.js';
import type { PeakQuestion } from './linear-peak.js';

function mostMemory(): number {
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return Number(kibibytes) * 1024;
}

const { op, dtype, backend, shape }: PeakQuestion = JSON.parse(process.argv[2]);
const { tokens, vocab, width } = shape;
const [half] = roundTo(Float32Array.of(0.5), dtype);
const filled = (rows: number) => {
  const matrix = zeros(rows, width, dtype);
  matrix.data.fill(half); // the system gives memory where it is written to
  return matrix;
};
const inputs = {
  hidden: filled(tokens),
  weight: filled(vocab),
  targets: new Int32Array(tokens),
  upstream: new Float64Array(tokens).fill(1),
  rollouts: {
    ...rolloutsOfTokens(tokens, LOSS_LENGTHS, 8, 1),
    oldLogProbs: new Float64Array(tokens).fill(-Math.log(vocab)), // all tokens are equally likely
  },
};
benchAddon(); // loads it
const before = mostMemory();
const { run }: LinearOp = LINEAR_OPS[op];
run(inputs, backend);
process.stdout.write(`${mostMemory() - before}`);
