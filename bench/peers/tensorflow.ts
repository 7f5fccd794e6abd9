// TensorFlow.js on its wasm backend (SIMD; in Node it runs on one thread), in this process. Its tensors live in the memory of
// the wasm module: the logits are copied there beforehand, untimed.
import type { Peer } from '../peer.js';
import type { HostArrays } from '../problems/arrays.js';
import type { Elements } from '../problems/data.js';
import type { Contender } from '../timing.js';
import { forwardContender } from './contender.js';
import { requirePeer } from './installed.js';

const NAME = 'TensorFlow.js';
const PACKAGES = { core: '@tensorflow/tfjs-core', wasm: '@tensorflow/tfjs-backend-wasm' };
const THREADS = 1;
/** It sums a row in float32 term after term: with 151936 of them its error is just above 1e-5. */
const TOLERANCE = 1e-4;

interface Tensor {
  dataSync(): Float32Array;
  dispose(): void;
}

/** What is used of the package. */
interface Tensorflow {
  readonly version_core: string;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor2d(values: Elements | Int32Array, shape: readonly [number, number], dtype?: 'int32'): Tensor;
  gatherND(x: Tensor, places: Tensor): Tensor;
  logSoftmax(x: Tensor, axis: number): Tensor;
  logSumExp(x: Tensor, axis: number): Tensor;
  sub(a: Tensor, b: Tensor): Tensor;
  tidy<Result>(work: () => Result): Result;
}

export async function openTensorflow(): Promise<Peer> {
  const tf: Tensorflow = requirePeer(PACKAGES.core);
  requirePeer(PACKAGES.wasm);
  await tf.setBackend('wasm');
  await tf.ready();
  let tensors: Tensor[] = [];
  const release = () => {
    for (const tensor of tensors) tensor.dispose();
    tensors = [];
  };
  return {
    version: `${tf.version_core} wasm`,
    async contenders(arrays) {
      release();
      const { tokens, vocab } = arrays.problem.shape;
      const logits = arrays.logits.map(({ data }) => tf.tensor2d(data, [tokens, vocab]));
      const places = Int32Array.from({ length: 2 * tokens }, (_, k) =>
        k % 2 ? arrays.problem.targets[k >> 1] : k >> 1,
      );
      const targets = tf.tensor2d(places, [tokens, 2], 'int32'); // its gather with batch dimensions fails on large arrays
      for (const tensor of logits) tensor.dataSync(); // forces the copy, which may have been deferred
      tensors = [...logits, targets];
      return contendersOf(tf, arrays, logits, targets);
    },
    cpuSeconds: async () => 0, // in this process
    close: async () => release(),
  };
}

function contendersOf(tf: Tensorflow, arrays: HostArrays, logits: readonly Tensor[], targets: Tensor): Contender[] {
  const gather = (x: Tensor) => tf.gatherND(x, targets);
  const ops: Record<string, (x: Tensor) => Tensor> = {
    forward: (x) => gather(tf.logSoftmax(x, -1)),
    'forward by logsumexp': (x) => tf.sub(gather(x), tf.logSumExp(x, -1)),
  };
  return Object.entries(ops).map(([op, f]) => {
    const run = (slot: number) => tf.tidy(() => f(logits[slot]).dataSync());
    return forwardContender(arrays, { by: NAME, op, threads: THREADS, run }, async () => run(0), TOLERANCE);
  });
}
