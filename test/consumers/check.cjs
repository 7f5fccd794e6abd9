// What every consumer does with the package: losses and gradients, as they come, against the reference.

const [TOKENS, VOCAB] = [24, 500];
const seeded = (length, of) => Array.from({ length }, (_, i) => of(i));

function batch() {
  return {
    logits: Float32Array.from(seeded(TOKENS * VOCAB, (i) => 3 * Math.sin(i * i))),
    targets: Int32Array.from(seeded(TOKENS, (i) => (37 * i) % VOCAB)),
    cuSeqlens: Int32Array.of(0, 6, 12, 18, 24),
    cuGroups: Int32Array.of(0, 4),
    rewards: Float32Array.of(1, 0, 0, 1),
  };
}

/** ||a - b|| / ||b|| */
function relativeError(a, b) {
  const norm = (of) => Math.sqrt(b.reduce((sum, _, i) => sum + of(i) ** 2, 0));
  return norm((i) => a[i] - b[i]) / norm((i) => b[i]);
}

/** @param {typeof import('rlvr-kernels')} api */
exports.check = (api) => {
  const cpu = api.backends().find(({ name }) => name === 'cpu');
  const results = [api.conspoSync, api.grpoSync].map((loss) => {
    const { loss: value, gradLogits } = loss(batch());
    const expected = loss(batch(), { backend: 'reference' });
    const error = Math.max(relativeError([value], [expected.loss]), relativeError(gradLogits, expected.gradLogits));
    return { loss: value, error };
  });
  return {
    cpu: cpu.available,
    reason: cpu.reason,
    losses: results.map(({ loss }) => loss),
    error: Math.max(...results.map(({ error }) => error)),
  };
};
