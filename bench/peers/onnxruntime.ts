// onnxruntime-node, installed only when asked for (bench/README.md), on the logits arrays of this process.
import type { Peer } from '../peer.js';
import type { HostArrays } from '../problems/arrays.js';
import type { Contender } from '../timing.js';
import { forwardContender } from './contender.js';
import { requirePeer } from './installed.js';
import { logSoftmaxModel } from './log-softmax-model.js';

const NAME = 'onnxruntime-node';

interface Tensor {
  readonly data: Float32Array;
}

interface Session {
  run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}

/** What is used of the package. */
interface Onnxruntime {
  readonly env: { readonly versions?: { readonly node?: string } };
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> };
  readonly Tensor: new (type: string, data: ArrayBufferView, shape: readonly number[]) => Tensor;
}

export async function openOnnxruntime({ threads }: { threads: number }): Promise<Peer> {
  const ort: Onnxruntime = requirePeer(NAME);
  const session = await ort.InferenceSession.create(logSoftmaxModel(), {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
  });
  return {
    version: String(ort.env.versions?.node ?? 'unknown'),
    contenders: async (arrays) => [forward(ort, session, arrays, threads)],
    cpuSeconds: async () => 0, // its threads are this process's
    close: () => session.release(),
  };
}

/** The input tensors wrap our arrays and are made beforehand: the run and its [T, 1] result are what is timed. */
function forward(ort: Onnxruntime, session: Session, arrays: HostArrays, threads: number): Contender {
  const { tokens, vocab } = arrays.problem.shape;
  const ids = new ort.Tensor('int64', BigInt64Array.from(arrays.problem.targets, BigInt), [tokens, 1]);
  const feeds = arrays.logits.map(({ data }) => ({ x: new ort.Tensor('float32', data, [tokens, vocab]), i: ids }));
  const run = (slot: number) => session.run(feeds[slot]);
  return forwardContender(arrays, { by: NAME, op: 'forward', threads, run }, async () => (await run(0)).y.data);
}
