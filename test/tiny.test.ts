// What the cpu backend computes without the addon, because a call into it would take longer.
import { expect, test } from 'vitest';
import { builtFile, childJson } from './boundary/child.js';

interface Calls {
  tiny: string[];
  large: string[];
  equal: boolean;
}

// In a process of its own: the tests' processes have RLVR_TINY_NATIVE=1.
const SCRIPT = `
  const native = await import(${builtFile('./backend/addon.js')});
  const addon = native.nativeAddon();
  const called = [];
  for (const [name, real] of Object.entries(addon)) {
    if (typeof real === 'function' && name !== 'cpuInfo') addon[name] = (...args) => { called.push(name); return real(...args); };
  }
  const batch = (tokens, vocab) => ({
    logits: { data: Float32Array.from({ length: tokens * vocab }, (_, i) => Math.sin(i)), shape: [tokens, vocab], dtype: 'f32' },
    targets: new Int32Array(tokens),
    cuSeqlens: Int32Array.of(0, tokens / 2, tokens),
    cuGroups: Int32Array.of(0, 2),
    rewards: Float32Array.of(1, 0),
  });
  const take = () => called.splice(0);
  const small = await rlvr.conspo(batch(4, 8), { backend: 'cpu' });
  rlvr.conspoSync(batch(4, 8), { backend: 'cpu' });
  const tiny = take();
  const reference = rlvr.conspoSync(batch(4, 8), { backend: 'reference' });
  rlvr.conspoSync(batch(4, 800), { backend: 'cpu' });
  console.log(JSON.stringify({ tiny, large: take(), equal: small.loss === reference.loss }));
`;

test('a tiny loss stays in TypeScript, whether awaited or not; a larger one does not', async () => {
  const { tiny, large, equal } = await childJson<Calls>(SCRIPT, { env: { RLVR_TINY_NATIVE: '' } });
  expect(tiny).toEqual([]);
  expect(equal).toBe(true);
  expect(large).toContain('tokenLogProbsForward');
  expect(large).toContain('tokenLogProbsBackward');
});

test('RLVR_TINY_NATIVE=1, as in these tests, leaves everything to the addon', async () => {
  const { tiny } = await childJson<Calls>(SCRIPT, { env: { RLVR_TINY_NATIVE: '1' } });
  expect(tiny).toContain('tokenLogProbsForward');
  expect(tiny).toContain('tokenLogProbsForwardAsync');
  expect(tiny).toContain('groupInfoNCE');
});
