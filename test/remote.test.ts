// rlvr-kernels/remote, against a server over HTTP whose model is a table of logits, one row for each input id.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dapo, fromRollouts, grpo, losses, lossesSync, padded, tokenLogProbsSync } from '../lib/index.js';
import { LOSS_NAMES } from '../lib/losses/list.js';
import { type RemoteClient, type RemoteSequence, remoteStep } from '../lib/remote/index.js';
import { VOCAB } from './support/adapters.js';
import { rlvrError } from './support/errors.js';

const table = Float32Array.from({ length: VOCAB * VOCAB }, (_, i) => 2 * Math.sin(i * i));
const logitsOf = (ids: ArrayLike<number>) =>
  Float32Array.from({ length: ids.length * VOCAB }, (_, i) => table[ids[Math.floor(i / VOCAB)] * VOCAB + (i % VOCAB)]);

/** What goes over the wire, as Tinker's Datum has it. */
interface Datum {
  model_input: number[];
  loss_fn_inputs: { target_tokens: number[]; weights?: number[] };
}

/** Log-probs of the targets. */
function forward(data: Datum[]): number[][] {
  return data.map(({ model_input, loss_fn_inputs: { target_tokens } }) => [
    ...tokenLogProbsSync({ logits: logitsOf(model_input), targets: Int32Array.from(target_tokens) }).logProbs,
  ]);
}

/** The gradient of -sum(weight * log-prob) by the table, term by term. */
function backward(data: Datum[]): number[] {
  const gradient = new Array<number>(table.length).fill(0);
  for (const {
    model_input,
    loss_fn_inputs: { target_tokens, weights = [] },
  } of data) {
    model_input.forEach((id, t) => {
      const row = [...table.subarray(id * VOCAB, (id + 1) * VOCAB)].map(Math.exp);
      const sum = row.reduce((a, b) => a + b);
      row.forEach((e, v) => {
        gradient[id * VOCAB + v] -= weights[t] * ((v === target_tokens[t] ? 1 : 0) - e / sum);
      });
    });
  }
  return gradient;
}

let server: Server;
let client: RemoteClient<number[]>;
beforeAll(async () => {
  server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const data = JSON.parse(text) as Datum[];
    response.end(JSON.stringify(request.url === '/forward' ? forward(data) : backward(data)));
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as AddressInfo;
  const post = async <T>(path: string, data: Datum[], signal?: AbortSignal): Promise<T> => {
    const body = JSON.stringify(data);
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', body, signal: signal ?? null });
    return (await response.json()) as T;
  };
  const datum = ({ inputIds, targets }: RemoteSequence, more: { weights?: number[] } = {}): Datum => ({
    model_input: [...inputIds],
    loss_fn_inputs: { target_tokens: [...targets], ...more },
  });
  client = {
    async forward(sequences, { signal }) {
      const logProbs = await post<number[][]>(
        '/forward',
        sequences.map((one) => datum(one)),
        signal,
      );
      return logProbs.map((values) => Float64Array.from(values));
    },
    backward: (sequences, { signal }) =>
      post(
        '/backward',
        sequences.map((one) => datum(one, { weights: [...one.weights] })),
        signal,
      ),
  };
});
afterAll(() => new Promise((closed) => server.close(closed)));

const sampled = {
  promptIds: [[1, 2], [3], [4]],
  answers: [[[2, 5, 6], [4]], [[6, 6], [], [0, 1, 3]], [[5]]],
  logProbs: [[[-1, -1.5, -2], [-1]], [[-1, -2], [], [-1.5, -1, -2]], [[-0.5]]],
  answerMask: [[[1, 0, 1], [1]], [[1, 1], [], [1, 1, 1]], [[1]]],
  rewards: [[1, 0], [0, 1, 1], [0]],
};

describe.each(['right', 'left', 'none'] as const)('padding %s', (padding) => {
  test.each(LOSS_NAMES)(
    '%s: the result and the gradient of the parameters are those of the loss itself',
    async (name) => {
      const rollouts = fromRollouts(sampled, { padding });
      const options = { ...(name === 'drGrpo' && { maxLength: 4 }), logProbs: true };
      const logits = logitsOf(rollouts.inputIds);
      const batch = padding === 'none' ? ({ ...rollouts, logits } as never) : padded({ ...rollouts, logits });
      const { gradLogits, ...direct } = lossesSync[name](batch, options);
      const gradient = new Float64Array(table.length);
      gradLogits.forEach((g, i) => {
        gradient[rollouts.inputIds[Math.floor(i / VOCAB)] * VOCAB + (i % VOCAB)] += g;
      });
      const { reply, loss, scores, metrics } = await remoteStep(client, losses[name], rollouts, options);
      expect(loss).toBeCloseTo(direct.loss, 12);
      expect(scores).toEqual(direct.scores);
      expect(Object.keys(metrics)).toEqual(Object.keys(direct.metrics));
      reply.forEach((g, i) => {
        expect(g).toBeCloseTo(gradient[i], 6);
      });
      expect(reply.some((g) => Math.abs(g) > 1e-3)).toBe(true);
    },
  );
});

describe('what is refused, by name', () => {
  const rollouts = fromRollouts(sampled);
  const step = (changes: object, options: object = {}) =>
    remoteStep(client, dapo, { ...rollouts, ...changes } as typeof rollouts, options);
  const answering = (logProbs: unknown) =>
    remoteStep({ ...client, forward: async () => logProbs as never }, grpo, rollouts);

  test('log-probs of the server that do not fit', async () => {
    await expect(answering([])).rejects.toThrow(
      rlvrError('ERR_SHAPE', 'client.forward: expected one array for each of 6'),
    );
    await expect(answering({})).rejects.toThrow(rlvrError('ERR_DTYPE', 'client.forward'));
    const fitting = rollouts.shape[0];
    const short = Array.from({ length: fitting }, () => new Float64Array(1));
    await expect(answering(short)).rejects.toThrow(rlvrError('ERR_SHAPE', 'client.forward[0]: expected length 4'));
    const probabilities = {
      ...client,
      forward: async (all: readonly RemoteSequence[]) =>
        all.map(({ targets }) => new Float64Array(targets.length).fill(0.5)),
    };
    await expect(remoteStep(probabilities, grpo, rollouts)).rejects.toThrow(rlvrError('ERR_RANGE', 'logProbs'));
  });

  test('bad batches and options, before the server is asked', async () => {
    const idle = { forward: () => expect.fail('asked'), backward: () => expect.fail('asked') };
    const call = (changes: object, options: object = {}) =>
      remoteStep(
        idle as unknown as typeof client,
        dapo,
        { ...rollouts, ...changes } as typeof rollouts,
        options as never,
      );
    await expect(call({ logProbs: new Float64Array(1) })).rejects.toThrow(
      rlvrError('ERR_RANGE', 'logProbs: expected none'),
    );
    await expect(call({ inputIds: [1] })).rejects.toThrow(rlvrError('ERR_DTYPE', 'inputIds'));
    await expect(call({ shape: [2, 3] })).rejects.toThrow(
      rlvrError('ERR_SHAPE', 'shape: expected [B, L] of the 30 inputIds'),
    );
    await expect(call({ attentionMask: undefined })).rejects.toThrow(rlvrError('ERR_DTYPE', 'attentionMask'));
    const holed = rollouts.attentionMask.slice().fill(0, 1, 2);
    await expect(call({ attentionMask: holed })).rejects.toThrow(
      rlvrError('ERR_RANGE', 'attentionMask: expected the tokens of a sequence side by side, got a gap at index 1'),
    );
    await expect(call({ mask: rollouts.mask.slice().fill(1) })).rejects.toThrow(
      rlvrError('ERR_RANGE', 'mask: expected 0 where no id'),
    );
    await expect(call({ ref_log_probs: [] })).rejects.toThrow(rlvrError('ERR_OPTION', 'ref_log_probs'));
    await expect(call({}, { gradient: 'new' })).rejects.toThrow(rlvrError('ERR_RANGE', 'gradient: expected none'));
    await expect(remoteStep({} as never, dapo, rollouts)).rejects.toThrow(
      rlvrError('ERR_DTYPE', 'client.forward: expected a function'),
    );
    await expect((remoteStep as (...args: unknown[]) => Promise<unknown>)(client, 5, rollouts)).rejects.toThrow(
      rlvrError('ERR_DTYPE', 'loss: expected a loss'),
    );
  });

  test('what needs logits, misspelt options, and an aborted step', async () => {
    await expect(step({}, { entropyCoef: 0.1 })).rejects.toThrow(rlvrError('ERR_RANGE', 'entropyCoef'));
    await expect(step({}, { epsilonHgih: 0.1 })).rejects.toThrow(rlvrError('ERR_OPTION', 'epsilonHigh'));
    await expect(step({}, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });
});
