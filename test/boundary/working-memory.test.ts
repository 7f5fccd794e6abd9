// Kernels that need memory to work in, in a process that gets no more.
import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { BACKENDS } from '../support/backends.js';
import { childJson } from './child.js';

const PRLIMIT = '/usr/bin/prlimit';
const SANITIZED = process.env.ASAN_OPTIONS !== undefined; // its allocator ends the process instead

const script = (call: string) => `
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
const rows = 256, width = 2 ** 17, tokens = 2;
const inputs = {
  hidden: new Float32Array(tokens * width).fill(1), weight: new Float32Array(rows * width).fill(0.001),
  targets: new Int32Array(tokens), logSumExp: new Float64Array(tokens).fill(140), gradLogProbs: new Float64Array(tokens).fill(1),
};
const gradWeight = { out: new Float32Array(rows * width).fill(7) };
rlvr.tokenLogProbsSync({ logits: Float32Array.of(1, 2), targets: Int32Array.of(0) }, { backend: 'cpu' }); // its threads start
const pages = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[0]);
const limit = pages * 4096 + 2 ** 26; // 64 MiB; the packed weight alone takes 128
execFileSync('${PRLIMIT}', ['--pid', String(process.pid), '--as=' + limit + ':' + limit]);
let error;
try {
  ${call};
} catch (caught) {
  error = caught;
}
console.log(JSON.stringify({ code: error?.code, message: error?.message, untouched: gradWeight.out.every((x) => x === 7) }));`;

describe.runIf(BACKENDS.includes('cpu') && existsSync(PRLIMIT) && !SANITIZED)('hidden states', () => {
  test.each([
    ['forward', 'rlvr.linearLogProbsSync(inputs, { backend: "cpu" })'],
    ['backward', 'rlvr.linearLogProbsBackwardSync(inputs, { backend: "cpu", gradWeight })'],
  ])('%s pass', async (_name, call) => {
    expect(await childJson(script(call))).toEqual({
      code: 'ERR_RANGE',
      message: 'hidden: expected a size for which there is memory to work in, got [2, 131072]',
      untouched: true,
    });
  });
});
