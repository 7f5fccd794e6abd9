// What the compiler knows of the adapters, with the types of the frameworks themselves: `npm run typecheck` compiles this file.
import * as jax from '@jax-js/jax';
import * as tf from '@tensorflow/tfjs-core';
import {
  conspo,
  conspoSync,
  crossEntropy,
  crossEntropySync,
  drGrpo,
  drGrpoSync,
  fromRollouts,
  grpo,
  grpoSync,
  type LossName,
  losses,
  lossesSync,
  microBatches,
} from '../../lib/index.js';
import { lossAndGrad as jaxLoss } from '../../lib/jax/index.js';
import { type RemoteClient, remoteStep } from '../../lib/remote/index.js';
import { lossAndGrad as tfLoss } from '../../lib/tfjs/index.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function expectType<Expected>(): <Actual>(value: Actual, same: Equal<Expected, Actual>) => void;

const sampled = { promptIds: [[5]], answers: [[[2], [4]]], logProbs: [[[-1], [-2]]], rewards: [[1, 0]] };
const rollouts = fromRollouts(sampled);
declare const packed: { targets: Int32Array; cuSeqlens: Int32Array };
declare const anyName: LossName;
declare const logits: tf.Tensor2D;
declare const weights: jax.Array;

// An operation that optimizers take, of tensors of any rank.
const op = tfLoss(tf, grpoSync, rollouts, { epsilonHigh: 0.28, gradient: 'in-place' });
tf.train.sgd(0.1).minimize(() => op(logits));
expectType<tf.Scalar>()(op(logits), true);
expectType<number | undefined>()(op.result?.metrics.rewardMean, true);
op(tf.zeros([1, 2, 3]));
tfLoss(tf, lossesSync[anyName], rollouts, { tau: 0.1, maxLength: 8 });
tfLoss(tf, crossEntropySync, packed, { temperature: 0.5 });
for (const part of microBatches(rollouts, { sequences: 2, loss: 'conspo', options: { tau: 0.1 } }))
  tfLoss(tf, conspoSync, part.batch, { ...part.options, gradient: 'in-place' });

// The cotangent of vjp.
const [out, pullback] = jax.vjp((w: jax.Array) => w.mul(2), [weights]);
const { gradLogits, loss, metrics } = jaxLoss(jax, conspoSync, rollouts, { tau: 0.1 })(out);
expectType<jax.Array>()(gradLogits, true);
expectType<number>()(loss + metrics.scoreGap, true);
expectType<jax.Array>()(pullback(gradLogits)[0], true);

// A model on a server.
declare const client: RemoteClient<string>;
const step = await remoteStep(client, conspo, rollouts, { tau: 0.1, signal: AbortSignal.timeout(1000) });
expectType<string>()(step.reply, true);
expectType<number>()(step.metrics.rewardMean, true);
remoteStep(client, losses[anyName], fromRollouts(sampled, { padding: 'none' }), { maxLength: 8 });
// @ts-expect-error Dr. GRPO divides by a length
remoteStep(client, drGrpo, rollouts);
// @ts-expect-error misspelt
remoteStep(client, grpo, rollouts, { epsilonhigh: 0.28 });
// @ts-expect-error the server needs the ids
remoteStep(client, crossEntropy, packed);

// @ts-expect-error misspelt
tfLoss(tf, grpoSync, rollouts, { epsilonhigh: 0.28 });
// @ts-expect-error grpo has no tau
jaxLoss(jax, grpoSync, rollouts, { tau: 0.28 });
// @ts-expect-error Dr. GRPO divides by a length
tfLoss(tf, drGrpoSync, rollouts);
// @ts-expect-error the same
jaxLoss(jax, drGrpoSync, rollouts, {});
// @ts-expect-error groups are missing
tfLoss(tf, conspoSync, { ...packed, rewards: new Float32Array(2) });
// @ts-expect-error neither padded nor packed
tfLoss(tf, crossEntropySync, { targets: packed.targets });
// @ts-expect-error the logits come later
tfLoss(tf, grpoSync, { ...rollouts, logits: new Float32Array(2) });
// @ts-expect-error a blocking one
tfLoss(tf, grpo, rollouts);
// @ts-expect-error no place for an operation
tfLoss(tf, grpoSync, rollouts, { gradient: 'none' });
// @ts-expect-error it is returned
jaxLoss(jax, grpoSync, rollouts, { gradient: 'in-place' });
// @ts-expect-error not TensorFlow.js
tfLoss(jax, grpoSync, rollouts);
// @ts-expect-error nothing to differentiate
op(new Float32Array(3));
