// The same bits on every run: alone or among many, on 1, 2 or 5 threads, on each instruction-set path.
import { describe, expect, test } from 'vitest';
import { Random } from '../../bench/problems/random.js';
import { conspo, conspoSync, grpo, grpoSync, tokenLogProbs, tokenLogProbsSync } from '../../lib/index.js';
import { describeBackends } from '../support/backends.js';
import { randomBatch } from '../support/random.js';
import { builtFile, childJson } from './child.js';

/** Every op on shapes of one block of work and of many: a digest per op and, if asked, how far from the reference it is. */
const digestScript = (seed: number, withErrors: boolean) => `
import { createHash } from 'node:crypto';
const { Random } = await import(${builtFile('../bench/problems/random.js')});
const { normError } = await import(${builtFile('../bench/problems/float64.js')});
const stream = new Random(${seed});
const random = () => stream.uniform();
const noise = (n, scale) => Float32Array.from({ length: n }, () => scale * (random() + random() - random() - random()));
const drawing = { backend: 'cpu', seed: 5 }; // by itself: at the edge of an id, the reference may take its neighbour
const results = {};
const errors = {};
function flat(value) {
  if (typeof value === 'number') return [Float64Array.of(value)];
  if (ArrayBuffer.isView(value)) return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(flat) : [];
}
function record(name, run) {
  const cpu = run('cpu');
  results[name] = createHash('sha256').update(flat(cpu).map((a) => Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString('base64')).join()).digest('hex');
  if (!${withErrors}) return;
  const reference = flat(run('reference'));
  errors[name] = Math.max(...flat(cpu).map((array, i) => normError(array, reference[i])));
}
for (const [groups, vocab] of [[3, 50], [3, 3001], [40, 1025], [2000, 5]]) {
  const n = groups * 4;
  const cuSeqlens = Int32Array.from({ length: n + 1 }, (_, i) => i * 3);
  const tokens = 3 * n;
  const batch = {
    logits: noise(tokens * vocab, 3), targets: Int32Array.from({ length: tokens }, () => Math.floor(random() * vocab)),
    cuSeqlens, cuGroups: Int32Array.from({ length: groups + 1 }, (_, g) => 4 * g),
    rewards: Float32Array.from({ length: n }, () => (random() < 0.5 ? 1 : 0)),
    mask: Uint8Array.from({ length: tokens }, () => (random() < 0.9 ? 1 : 0)),
    oldLogProbs: noise(tokens, 1).map((x) => x - 3), refLogProbs: noise(tokens, 1).map((x) => x - 3),
  };
  const at = ' ' + groups + ' groups, V = ' + vocab;
  record('tokenLogProbs' + at, (backend) => rlvr.tokenLogProbsSync(batch, { backend, entropy: true }));
  record('drawn' + at, () => rlvr.sampleTokensSync({ logits: batch.logits, vocab }, drawing));
  record('conspo' + at, (backend) => rlvr.conspoSync(batch, { backend }));
  record('grpo' + at, (backend) => rlvr.grpoSync(batch, { backend, klCoef: 0.1, entropy: true }));
  const width = 37;
  const layer = { hidden: noise(tokens * width, 1), weight: noise(vocab * width, 0.5), bias: noise(vocab, 1), targets: batch.targets, mask: batch.mask };
  const upstream = { gradLogProbs: noise(tokens, 1), gradEntropy: noise(tokens, 1) };
  record('linearLogProbs' + at, (backend) => {
    const forward = rlvr.linearLogProbsSync(layer, { backend, entropy: true });
    const { logSumExp, entropy } = forward;
    return [forward, rlvr.linearLogProbsBackwardSync({ ...layer, ...upstream, logSumExp, entropy }, { backend })];
  });
  for (const dtype of ['bf16', 'f16']) {
    const data = Uint16Array.from({ length: tokens * vocab }, () => 0x3c00 + Math.floor(random() * 512));
    const logits = { data, shape: [tokens, vocab], dtype };
    record(dtype + ' drawn' + at, () => rlvr.sampleTokensSync({ logits }, { ...drawing, topK: 900, topP: 0.9, kept: true }));
    record(dtype + at, (backend) => rlvr.tokenLogProbsSync({ ...batch, logits }, { backend, entropy: true }));
  }
}
const { simd, threads } = rlvr.backends().find(({ name }) => name === 'cpu');
console.log(JSON.stringify({ simd, threads, results, errors }));
`;

interface Digests {
  simd: string;
  threads: number;
  results: Record<string, string>;
  errors: Record<string, number>;
}

const digests = (env: Record<string, string>, { seed = 7, withErrors = false } = {}) =>
  childJson<Digests>(digestScript(seed, withErrors), { env });

function expectAccurate({ errors }: Digests): void {
  expect(Object.keys(errors).length).toBe(36);
  // conspo's gradient: 2e-6 * max(1, max|log-prob| / tau), spec section 8; the log-probs reach 13.5 here.
  for (const [name, error] of Object.entries(errors)) {
    const tolerance = name.startsWith('conspo') ? 2e-6 * 135 : name.startsWith('linear') ? 1e-5 : 2e-6;
    if (!(error <= tolerance)) expect.fail(`${name}: ${error} is not within ${tolerance} of the reference`);
  }
}

/** A prebuilt addon, which RLVR_ADDON may name, has no portable path. */
const PREBUILT = /[\\/]prebuilds[\\/]/.test(process.env.RLVR_ADDON ?? '');

describe('bits', () => {
  test.each(['native', ...(process.arch === 'x64' ? ['avx2'] : []), ...(PREBUILT ? [] : ['portable'])])(
    '%s: the same for 1, 2 and 5 threads, and again',
    async (level) => {
      const env: Record<string, string> = level === 'native' ? {} : { RLVR_SIMD: level };
      const first = await digests({ ...env, RLVR_THREADS: '1' }, { withErrors: true });
      expect(first.threads).toBe(1);
      if (level !== 'native') expect(first.simd).toBe(level);
      for (const threads of ['2', '5', '5']) {
        const again = await digests({ ...env, RLVR_THREADS: threads });
        expect(again.threads).toBe(Number(threads));
        expect(again.simd).toBe(first.simd);
        expect(again.results).toEqual(first.results);
      }
      expectAccurate(first);
    },
  );

  test('the digest tells different inputs apart', async () => {
    const [one, other] = [await digests({}), await digests({}, { seed: 8 })];
    expect(Object.keys(one.results).length).toBe(36);
    for (const name of Object.keys(one.results)) expect(other.results[name], name).not.toBe(one.results[name]);
  });
});

describeBackends('many at once', (backend) => {
  test('concurrent ops give the bits of each alone', async () => {
    const random = new Random(3);
    const shapes = Array.from({ length: 24 }, (_, i) => ({
      vocab: 1 + Math.floor(random.uniform() * 3000),
      groups: 1 + (i % 6),
    }));
    const batches = shapes.map((shape, i) => randomBatch(100 + i, shape));
    const options = { backend, entropy: true, logProbs: true };
    const alone = batches.map((batch) => [
      conspoSync(batch, options),
      grpoSync(batch, { ...options, klCoef: 0.1 }),
      tokenLogProbsSync(batch, options),
    ]);
    const together = await Promise.all(
      batches.map((batch) =>
        Promise.all([conspo(batch, options), grpo(batch, { ...options, klCoef: 0.1 }), tokenLogProbs(batch, options)]),
      ),
    );
    expect(together).toEqual(alone);
  });

  test('sync calls while async ones run', async () => {
    const random = new Random(5);
    const [tokens, vocab] = [backend === 'reference' ? 40 : 600, 10_000];
    const logits = Float32Array.from({ length: tokens * vocab }, () => random.normal());
    const targets = new Int32Array(tokens).fill(9);
    const small = randomBatch(9, { vocab: 50, groups: 3 });
    const expected = [tokenLogProbsSync({ logits, targets }, { backend }), conspoSync(small, { backend })];
    const pending = tokenLogProbs({ logits, targets }, { backend });
    for (let i = 0; i < 50; i++) expect(conspoSync(small, { backend })).toEqual(expected[1]);
    expect(await pending).toEqual(expected[0]);
  });
});
