// The addon's own functions, called wrongly: each throws a TypeError and touches nothing. In child processes: a mistake here
// ends the process.
import { expect, test } from 'vitest';
import { packageVersion } from '../../lib/version.js';
import { builtFile, childJson } from './child.js';

const ADDON = `
import { createRequire } from 'node:module';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
const require = createRequire(process.cwd() + '/package.json');
const load = require('node-gyp-build');
const path = process.env.RLVR_ADDON ?? load.path(process.cwd());
const addon = require(path);
const [T, V, N] = [4, 5, 2];
const doubles = (n) => new Float64Array(n).fill(-1);
const rows = () => ({ logits: new Float32Array(T * V).fill(1), dtype: 0, tokens: T, vocab: V, rowStride: V,
  targets: new Int32Array(T), mask: new Uint8Array(T).fill(1), temperature: 1, logSumExp: doubles(T) });
const drawn = () => ({ logits: new Float32Array(T * V).fill(1), dtype: 0, tokens: T, vocab: V, rowStride: V });
const cuSeqlens = () => Int32Array.of(0, 2, T);
const D = 3;
const matrix = (rows, width) => ({ data: new Float32Array(rows * width).fill(1), dtype: 0, rowStride: width });
const layer = () => ({ hidden: matrix(T, D), weight: matrix(V, D), bias: matrix(1, V), tokens: T, vocab: V, width: D,
  targets: new Int32Array(T), mask: new Uint8Array(T).fill(1), temperature: 1, logSumExp: doubles(T) });
const keptLogits = () => ({ keptLogits: new Float32Array(T * V).fill(1), keptRows: Int32Array.from({ length: T }, (_, t) => t) });
const furtherRules = () => ({ samplerLogProbs: doubles(T), level: 0, klWeighted: true, klMax: 10,
  kPos: 2, kNeg: 3, lambdaPos: 3, lambdaNeg: 2 });
const term = () => ({ kind: 1, ...furtherRules(), oldLogProbs: doubles(T), sides: doubles(N), tokenWeights: doubles(T), epsilonLow: 0.2, epsilonHigh: 0.2,
  ratioMin: 0, ratioMax: 5, tauPos: 1, tauNeg: 1, gradScores: doubles(N) });
const VALID = {
  tokenLogProbsForward: () => ({ ...rows(), logProbs: doubles(T), entropy: doubles(T), kept: new Uint8Array(T), nonFinite: new Int32Array(1) }),
  tokenLogProbsBackward: () => ({ ...rows(), gradLogProbs: doubles(T), entropy: doubles(T), gradEntropy: doubles(T),
    gradLogits: new Float32Array(T * V), gradRowStride: V, deferred: false, watch: true,
    badRows: new Int32Array(2) }),
  tokenLogProbsOnePass: () => ({ ...rows(), logProbs: doubles(T), entropy: doubles(T), kept: new Uint8Array(T),
    nonFinite: new Int32Array(1), terms: { cuSeqlens: cuSeqlens(), sequences: N, tokenCounts: doubles(N), policy: term(), penalty: term() },
    gradLogProbs: doubles(T), gradLogits: new Float32Array(T * V), gradRowStride: V, badRows: new Int32Array(2) }),
  zeroRows: () => ({ gradLogits: new Float32Array(T * V), dtype: 0, tokens: T, vocab: V, gradRowStride: V, rowScale: doubles(T) }),
  sequenceLogProbsForward: () => ({ logProbs: doubles(T), mask: new Uint8Array(T), cuSeqlens: cuSeqlens(), sequences: N,
    scores: doubles(N), tokenCounts: doubles(N) }),
  sequenceLogProbsBackward: () => ({ gradScores: doubles(N), tokenCounts: doubles(N), mask: new Uint8Array(T),
    cuSeqlens: cuSeqlens(), sequences: N, gradLogProbs: doubles(T) }),
  ratioScoresForward: () => ({ kind: 1, ...furtherRules(), logProbs: doubles(T), oldLogProbs: doubles(T), mask: new Uint8Array(T),
    cuSeqlens: cuSeqlens(), sequences: N, sides: doubles(N), epsilonLow: 0.2, epsilonHigh: 0.2, ratioMin: 0, ratioMax: 5,
    tauPos: 1, tauNeg: 1, scores: doubles(N), tokenCounts: doubles(N), scoreGrads: doubles(T),
    clippedLow: new Int32Array(N), clippedHigh: new Int32Array(N) }),
  ratioScoresBackward: () => ({ gradScores: doubles(N), scoreGrads: doubles(T), cuSeqlens: cuSeqlens(), sequences: N,
    accumulate: false, gradLogProbs: doubles(T) }),
  groupInfoNCE: () => ({ scores: doubles(N), rewards: Float64Array.of(1, 0), tokenCounts: doubles(N).fill(1),
    cuGroups: Int32Array.of(0, N), groups: 1,
    tau: 0.1, margin: 0, positiveThreshold: 0, normalizer: 1, groupLosses: doubles(1), gradScores: doubles(N), loss: doubles(1) }),
  advantageObjective: () => ({ scores: doubles(N), advantages: doubles(N), tokenCounts: doubles(N), sequences: N,
    perToken: true, scale: -1, normalizer: 1, gradScores: doubles(N), loss: doubles(1) }),
  sampleTokens: () => ({ ...drawn(), temperature: 1, topK: 3, topP: 0.9, minDistance: -2, seed: 1, offset: 2, ids: new Int32Array(T), logProbs: doubles(T),
    cutLogits: doubles(T), cutIds: new Int32Array(T), keptCounts: new Int32Array(T) }),
  sampleTokensKept: () => ({ ...drawn(), cutLogits: doubles(T), cutIds: new Int32Array(T), cuKept: Int32Array.of(0, 2, 2, 5, 9),
    keptIds: new Int32Array(9) }),
  linearLogProbsForward: () => ({ ...layer(), ...keptLogits(), logProbs: doubles(T), entropy: doubles(T), kept: new Uint8Array(T), nonFinite: new Int32Array(1) }),
  linearLogProbsBackward: () => ({ ...layer(), ...keptLogits(), gradLogProbs: doubles(T), entropy: doubles(T), gradEntropy: doubles(T),
    gradHidden: { ...matrix(T, D), accumulate: true }, gradWeight: { ...matrix(V, D), accumulate: false },
    gradBias: { ...matrix(1, V), accumulate: false }, badRows: new Int32Array(4) }),
  simdExp: () => ({ x: new Float32Array(9), out: new Float32Array(9), count: 9 }),
  readMemory: () => ({ source: new Uint8Array(99), bytes: 99 }),
  copyMemory: () => ({ source: new Uint8Array(99), destination: new Uint8Array(99), bytes: 99 }),
  streamMemory: () => ({ source: new Uint8Array(99), destination: new Uint8Array(99), bytes: 99 }),
  multiplyAdd: () => ({ steps: 99 }),
  matrixProduct: () => ({ left: new Float32Array(T * D), right: new Float32Array(D * V), leftTransposed: false, rightTransposed: true,
    rows: T, columns: V, depth: D, out: new Float32Array(T * V) }),
  limitThreads: () => ({ threads: 0 }),
  preferHugePages: () => ({ memory: new Uint8Array(99), bytes: 99 }),
};
const DIAGNOSTICS = ['simdExp', 'readMemory', 'copyMemory', 'streamMemory', 'multiplyAdd', 'matrixProduct', 'limitThreads', 'preferHugePages'];
const OPS = Object.entries(VALID).flatMap(([name, make]) =>
  DIAGNOSTICS.includes(name) ? [[name, make]] : [[name, make], [name + 'Async', () => ({ ...make(), cancel: new Int32Array(1) })]]);
const covered = ['address', 'cpuInfo', ...OPS.map(([name]) => name)].sort();
const functions = Object.keys(addon).filter((key) => typeof addon[key] === 'function').sort(); // the rest: other backends
if (JSON.stringify(covered) !== JSON.stringify(functions)) throw new Error('exports: ' + functions);
`;

const JUNK = `
const detached = (View) => { const array = new View(64); structuredClone(array.buffer, { transfer: [array.buffer] }); return array; };
const junk = () => [
  undefined, null, true, false, 0, -0, 1, -1, 2, 3, 0.5, 255, 2 ** 31, 2 ** 32, 2 ** 51, 2 ** 52, 2 ** 53, 2 ** 63, -(2 ** 63), 1e300,
  NaN, Infinity, -Infinity, 7n, 'text', Symbol('s'), () => 0, {}, [], [1, 2, 3], new Proxy({}, {}), new Date(), /x/, Promise.resolve(),
  new ArrayBuffer(8), new DataView(new ArrayBuffer(64)), new SharedArrayBuffer(64), Buffer.alloc(64),
  ...[Float32Array, Float64Array, Int32Array, Uint8Array, Uint16Array, Int8Array, Uint8ClampedArray, Int16Array, Uint32Array,
    BigInt64Array, BigUint64Array].flatMap((View) => [new View(0), new View(1), new View(64)]),
  Int32Array.of(0, 2, 2 ** 31 - 1), Int32Array.of(0, -1, 4), Int32Array.of(1, 2, 4), Int32Array.of(0, 3, 2),
  detached(Float32Array), detached(Float64Array), detached(Int32Array), detached(Uint8Array), detached(Uint16Array),
];
`;

test("the addon carries the package's version", async () => {
  const { version } = await childJson<{ version: string }>(
    `${ADDON} console.log(JSON.stringify({ version: addon.version }));`,
  );
  expect(version).toBe(packageVersion());
});

test('valid calls are accepted', async () => {
  const { accepted } = await childJson<{ accepted: string[] }>(`${ADDON}
    const accepted = [];
    for (const [name, make] of OPS) { await addon[name](make()); accepted.push(name); }
    console.log(JSON.stringify({ accepted }));`);
  expect(accepted.length).toBe(36);
});

test('no arguments, or something other than an object', async () => {
  const { wrong } = await childJson<{ wrong: string[] }>(`${ADDON} ${JUNK}
    const wrong = [];
    for (const [name] of OPS) {
      for (const args of [[], ...junk().filter((value) => typeof value !== 'object' || value === null).map((value) => [value])]) {
        try { await addon[name](...args); wrong.push(name + ' accepted ' + typeof args[0]); } catch (error) {
          if (!(error instanceof TypeError)) wrong.push(name + ': ' + error);
        }
      }
    }
    console.log(JSON.stringify({ wrong }));`);
  expect(wrong).toEqual([]);
});

test('the address of an array: of its first element, the same through every buffer, and of nothing else', async () => {
  const { wrong, differences } = await childJson<{ wrong: string[]; differences: number[] }>(`${ADDON} ${JUNK}
    const wrong = [];
    for (const value of [...junk(), undefined]) {
      const isArray = ArrayBuffer.isView(value) && !(value instanceof DataView);
      try { if (!Number.isSafeInteger(addon.address(value)) || !isArray) wrong.push('accepted ' + typeof value); } catch (error) {
        if (isArray || !(error instanceof TypeError)) wrong.push(String(error));
      }
    }
    const memory = new SharedArrayBuffer(64);
    const start = addon.address(new Uint8Array(memory));
    const again = structuredClone(memory);
    const differences = [new Float64Array(memory, 8), new Float64Array(again), new Uint8Array(again, 3)].map((view) => addon.address(view) - start);
    console.log(JSON.stringify({ wrong, differences }));`);
  expect(wrong).toEqual([]);
  expect(differences).toEqual([8, 0, 3]);
});

test('each property, replaced by each kind of junk', async () => {
  const { wrong, refused } = await childJson<{ wrong: string[]; refused: number }>(`${ADDON} ${JUNK}
    const wrong = [];
    let refused = 0;
    const optional = ['mask', 'oldLogProbs', 'samplerLogProbs', 'sides', 'entropy', 'gradEntropy', 'advantages', 'terms', 'cancel', 'bias', 'gradHidden',
      'gradWeight', 'gradBias', 'cutLogits'];
    const mayMiss = (name, key) => optional.includes(key) || (key === 'tokenCounts' && name.startsWith('groupInfoNCE'));
    for (const [name, make] of OPS) {
      const valid = make();
      for (const key of Object.keys(valid)) {
        for (const value of junk()) {
          const isArray = ArrayBuffer.isView(valid[key]);
          const alike = typeof value === typeof valid[key] &&
            (!isArray || Object.prototype.toString.call(value) === Object.prototype.toString.call(valid[key]));
          const mayPass = alike || (value === undefined && mayMiss(name, key)) || (key === 'entropy' && name.startsWith('tokenLogProbsBackward'));
          try {
            await addon[name]({ ...make(), [key]: value });
            if (!mayPass) wrong.push(name + '.' + key + ' accepted ' + Object.prototype.toString.call(value));
          } catch (error) {
            refused++;
            if (!(error instanceof TypeError) || !error.message.includes('native call')) wrong.push(name + '.' + key + ': ' + error);
          }
        }
      }
    }
    console.log(JSON.stringify({ wrong: wrong.slice(0, 20), refused }));`);
  expect(wrong).toEqual([]);
  expect(refused).toBeGreaterThan(5000);
});

test('arrays that are one element short, and matrices that are not what they say', async () => {
  const { accepted } = await childJson<{ accepted: string[] }>(`${ADDON}
    const accepted = [];
    for (const [name, make] of OPS) {
      const refused = async (what, args) => {
        try { await addon[name](args); accepted.push(name + '.' + what); } catch (error) {
          if (!(error instanceof TypeError)) accepted.push(name + '.' + what + ': ' + error);
        }
      };
      for (const [key, value] of Object.entries(make())) {
        const matrix = value?.data;
        if (matrix) {
          await refused(key + '.data', { ...make(), [key]: { ...value, data: matrix.subarray(1) } });
          await refused(key + '.rowStride', { ...make(), [key]: { ...value, rowStride: value.rowStride - 1 } });
          await refused(key + '.dtype', { ...make(), [key]: { ...value, dtype: 1 } });
          if ('accumulate' in value) await refused(key + '.accumulate', { ...make(), [key]: { ...value, accumulate: 1 } });
        }
        if (!ArrayBuffer.isView(value) || key === 'keptLogits' || (key === 'entropy' && !make().gradEntropy && name.includes('Backward'))) continue;
        await refused(key, { ...make(), [key]: value.subarray(0, value.length - 1) });
      }
    }
    console.log(JSON.stringify({ accepted }));`);
  expect(accepted).toEqual([]);
});

test('20,000 calls with several properties junk, missing, or behind getters that throw', async () => {
  const { calls, wrong } = await childJson<{ calls: number; wrong: string[] }>(`${ADDON} ${JUNK}
    const { Random } = await import(${builtFile('../bench/problems/random.js')});
    const stream = new Random(11);
    const random = (n) => Math.floor(stream.uniform() * n);
    const wrong = [];
    const pool = junk();
    const calls = 20000;
    for (let i = 0; i < calls; i++) {
      const [name, make] = OPS[random(OPS.length)];
      const args = make();
      const keys = Object.keys(args);
      for (let k = random(4); k >= 0; k--) {
        const key = keys[random(keys.length)];
        const how = random(10);
        if (how === 0) delete args[key];
        else if (how === 1) Object.defineProperty(args, key, { get() { throw new RangeError('getter'); }, configurable: true });
        else Object.defineProperty(args, key, { value: pool[random(pool.length)], configurable: true, writable: true });
      }
      try { await addon[name](args); } catch (error) {
        if (!(error instanceof TypeError) && error.message !== 'getter') wrong.push(name + ': ' + error);
      }
    }
    console.log(JSON.stringify({ calls, wrong: wrong.slice(0, 20) }));`);
  expect(wrong).toEqual([]);
  expect(calls).toBe(20_000);
});

test('the functions of MPI, without a library: junk is refused, and nothing is done', async () => {
  const { names, wrong, accepted } = await childJson<{
    names: string[];
    wrong: string[];
    accepted: string[];
  }>(`${ADDON} ${JUNK}
    const { mpi } = addon;
    const numbers = { communicator: 0, count: 2, maximum: true, values: doubles(2), out: doubles(2), counts: Int32Array.of(2) };
    const valid = { code: 1, hasHandle: false, handle: 0, color: 0, key: 0, together: true, ...numbers };
    const [wrong, accepted] = [[], new Set()];
    const attempt = async (name, ...args) => {
      try { await mpi[name](...args); accepted.add(name); } catch (error) { if (!(error instanceof Error)) wrong.push(name + ': ' + error); }
    };
    for (const name of Object.keys(mpi)) {
      await attempt(name);
      await attempt(name, valid);
      for (const value of junk()) {
        await attempt(name, value);
        for (const key of Object.keys(valid)) await attempt(name, { ...valid, [key]: value });
      }
    }
    console.log(JSON.stringify({ names: Object.keys(mpi).sort(), wrong, accepted: [...accepted].sort() }));`);
  expect(wrong).toEqual([]);
  expect(accepted).toEqual(['drain', 'exiting', 'finalize']);
  const collective = ['gather', 'gatherAsync', 'reduce', 'reduceAsync'];
  const others = ['drain', 'exiting', 'finalize', 'load', 'open', 'place', 'release', 'split', 'start'];
  expect(names).toEqual([...collective, ...others].sort());
});

test('two copies of the addon in one process', async () => {
  const { losses } = await childJson<{ losses: number[] }>(`${ADDON}
    const folder = mkdtempSync(join(tmpdir(), 'rlvr-'));
    const copy = join(folder, 'copy.node');
    copyFileSync(path, copy);
    const other = require(copy);
    if (other === addon || other.groupInfoNCE === addon.groupInfoNCE) throw new Error('the same copy');
    const big = () => {
      const tokens = 4000;
      return { ...VALID.sequenceLogProbsForward(), logProbs: doubles(tokens * 16), mask: undefined, sequences: tokens,
        cuSeqlens: Int32Array.from({ length: tokens + 1 }, (_, i) => 16 * i), scores: doubles(tokens), tokenCounts: doubles(tokens) };
    };
    const losses = [];
    for (let i = 0; i < 20; i++) {
      const args = [addon, other].map(() => VALID.groupInfoNCE());
      const work = [addon, other, addon, other].map((each) => each.sequenceLogProbsForwardAsync({ ...big(), cancel: new Int32Array(1) }));
      [addon, other].forEach((each, k) => each.groupInfoNCE(args[k]));
      await Promise.all(work);
      losses.push(...args.map(({ loss }) => loss[0]));
    }
    if (process.platform !== 'win32') rmSync(folder, { recursive: true }); // Windows keeps a file that is loaded
    console.log(JSON.stringify({ losses }));`);
  expect(losses.length).toBe(40);
  for (const loss of losses) expect(loss).toBeCloseTo(0.1 * Math.log(2), 12);
});
