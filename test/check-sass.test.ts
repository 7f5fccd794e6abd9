// The budget of machine instructions (scripts/check-sass.mjs): reading code, finding a loop, and what fails. The parts are
// tested on listings; where there is an nvcc, it shows that its code is read rightly.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { checkSassResult } from '../bench/report/sass-result.js';
import { onPath } from '../install/toolchain.mjs';
import { compile, FLAGS, readPtxasReport } from '../scripts/sass/compile.mjs';
import { readCubin } from '../scripts/sass/cubin.mjs';
import { decode } from '../scripts/sass/instructions.mjs';
import { ARCHITECTURES } from '../scripts/sass/kernels.mjs';
import { bothLoops, excesses, loopFigures, perElement } from '../scripts/sass/measure.mjs';
import { residentBlocks } from '../scripts/sass/occupancy.mjs';
import { isOutdated } from '../scripts/sass/result.mjs';
import { assemble, cubin, type FakeKernel, fakeNvcc, KERNEL_NAMES, SUMS } from './support/sass.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const architectures = [...ARCHITECTURES.keys()];
const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** Of sixteen elements, and of eight. */
const TWO_LOOPS = `
  read:  LDG x4
         FFMA x10
         MUFU.EX2 x16
         @P0 BRA read
  write: LDG x2
         FFMA
         MUFU.EX2 x8
         STG x2
         @P0 BRA write
         EXIT
`;

const figuresOf = (listing: string, architecture = 90) =>
  loopFigures(assemble(listing, architecture).map((words, i) => decode(words, i, architecture)));

/** A chunk of sixteen elements, and a step that an iteration may skip. */
const WITH_RARE_PART = `
        FFMA x3
  loop: LDG x4
        FFMA x20
        BSSY end
        @P0 BRA end
        DADD x5
        FFMA x10
  end:  BSYNC
        MUFU.EX2 x16
        @P0 BRA loop
        EXIT
`;

describe('an instruction', () => {
  test.each([
    // Written by nvcc 13.0 for kernels of one statement.
    ['ex2', 90, 0x0000000000057308n, 0x000e220000000800n, { op: 'MUFU.EX2' }],
    ['ex2 of 16 bits', 90, 0x0000001200107308n, 0x008ff00000000900n, { op: 'MUFU.EX2' }],
    ['lg2', 90, 0x0000000000077308n, 0x000e640000000c00n, { op: 'MUFU' }],
    ['rcp', 80, 0x0000000400097308n, 0x000ea20000001000n, { op: 'MUFU' }],
    ['a load of 1 byte', 80, 0x00000004080f7981n, 0x000ea2000c1e1100n, { op: 'LDG', loadBytes: 1 }],
    ['a load of 4 bytes', 120, 0x000000040c0d7981n, 0x000ee2000c1e1900n, { op: 'LDG', loadBytes: 4 }],
    ['a load of 16 bytes', 100, 0x000000040c0c7981n, 0x000ea2000c1e1d00n, { op: 'LDG', loadBytes: 16 }],
    ['a load of 32 bytes', 100, 0xfe0000040204797en, 0x002ee20008521908n, { op: 'LDG', loadBytes: 32 }],
    ['cp.async of 16 bytes', 90, 0x0000000010157faen, 0x0003e8000b901c46n, { op: 'LDGSTS', loadBytes: 16 }],
    ['a store', 80, 0x001f400c04007986n, 0x004fe2000c101d04n, { op: 'STG' }],
    ['a sum of doubles', 100, 0x0000000006087229n, 0x000fc4000000000an, { op: 'DADD' }],
    ['a float as a double', 90, 0x0000000a000a7310n, 0x000ea40000201800n, { op: 'F2F' }],
    ['two floats as 16 bits', 90, 0x000000000f0f723en, 0x008fca00000000ffn, { op: '3e' }],
  ] as const)('%s', (_, architecture, low, high, expected) => {
    expect(decode({ low, high }, 0, architecture)).toEqual({ falls: true, ...expected });
  });

  test.each([
    ['forward, guarded', 80, 0x0230 / 16 + 3, 0x0000034000008947n, 0x000fea0003800000n, 0x05b0, true],
    ['forward, of the warp', 80, 0x23, 0x000006027f007947n, 0x000fd8000b800000n, 0x0840, true],
    ['backward, always', 80, 0x88, 0xfffff9c000007947n, 0x000ff6000383ffffn, 0x0250, false],
    ['backward, guarded, far', 90, 0x8d, 0xfffffff800108947n, 0x000fec000383ffffn, 0x0120, true],
    ['forward, guarded, far', 90, 0x28, 0x0000000400188947n, 0x000fea0003800000n, 0x06f0, true],
    ['to itself', 120, 0xc3, 0xfffffffc00fc7947n, 0x000fc0000383ffffn, 0x0c30, false],
  ] as const)('a branch %s', (_, architecture, index, low, high, target, falls) => {
    expect(decode({ low, high }, index, architecture)).toEqual({ op: 'BRA', target: target / 16, falls });
  });
});

describe('the hot loop', () => {
  test.each(architectures)('has all its instructions counted, on sm_%i', (architecture) => {
    expect(figuresOf(WITH_RARE_PART, architecture)).toEqual({
      instructions: 4 + 20 + 2 + 15 + 1 + 16 + 1,
      elements: 16,
      rare: 15,
      rareParts: 1,
      divergence: 2,
      float64: 0,
      local: 0,
      loadBytes: 64,
    });
  });

  test('is the innermost with the most exponentials, and has what lies outside its addresses', () => {
    const figures = figuresOf(`
      row:   MUFU.EX2 x3
      loop:  @P0 BRA aside
      back:  LDG x4
             MUFU.EX2 x16
             @P0 BRA loop
      edge:  MUFU.EX2
             @P0 BRA edge
             MUFU.EX2 x16
             @P0 BRA row
             EXIT
      aside: FFMA x7
             BRA back
    `);
    expect(figures).toMatchObject({ instructions: 1 + 4 + 16 + 1 + 7 + 1, elements: 16, rare: 8, rareParts: 1 });
  });

  test('is missing where no loop has an exponential', () => {
    expect(figuresOf('MUFU.EX2 x8\nloop: FFMA\n@P0 BRA loop\nEXIT')).toBeUndefined();
  });

  test('is found behind a jump table, which leads to all that nothing else leads to', () => {
    const figures = figuresOf('FFMA\nBRX\nFFMA\nBRA loop\nEXIT\nFFMA\nloop: LDG\nMUFU.EX2 x4\n@P0 BRA loop\nEXIT');
    expect(figures).toMatchObject({ instructions: 6, elements: 4 });
  });

  test('is one of two where a kernel reads in one and writes in another', () => {
    const code = assemble(TWO_LOOPS).map((words, i) => decode(words, i, 90));
    expect(loopFigures(code, false)).toMatchObject({ instructions: 31, elements: 16, loadBytes: 64 });
    expect(loopFigures(code, true)).toMatchObject({ instructions: 14, elements: 8, loadBytes: 32 });
    // Over sixteen elements, the second loop goes round twice.
    expect(bothLoops(code)).toMatchObject({ instructions: 31 + 2 * 14, elements: 16, loadBytes: 64 });
    expect(bothLoops(code.slice(0, 31))).toBeUndefined();
  });
});

describe('a rare part', () => {
  test('is not a branch per element', () => {
    const element = (i: number) => `@P0 BRA next${i}\nDADD\nFFMA\nnext${i}: MUFU.EX2\n`;
    const figures = figuresOf(`loop: LDG x8\n${Array.from({ length: 32 }, (_, i) => element(i)).join('')}@P0 BRA loop`);
    expect(figures).toMatchObject({ elements: 32, rareParts: 2, rare: 4, float64: 30 });
  });

  test('holds no exponential, and may be skipped', () => {
    const skipped = figuresOf('loop: LDG x4\n@P0 BRA end\nDADD x9\nMUFU.EX2\nend: MUFU.EX2 x16\n@P0 BRA loop');
    expect(skipped).toMatchObject({ elements: 17, rareParts: 0, float64: 9 });
    const always = figuresOf('loop: LDG x4\nMUFU.EX2 x16\nBRA on\non: DADD x9\n@P0 BRA loop');
    expect(always).toMatchObject({ rareParts: 0, float64: 9 });
  });
});

test('a cubin gives its kernels, with the threads of their launch bounds', () => {
  const [first, second] = [assemble('FFMA\nEXIT'), assemble('EXIT')];
  expect(readCubin(cubin({ first: { threads: 96, code: first }, second: { threads: 1024, code: second } }))).toEqual([
    { name: 'first', threads: 96, code: first },
    { name: 'second', threads: 1024, code: second },
  ]);
  expect(() => readCubin(Buffer.from('#!/bin/sh\n'))).toThrow('not a cubin');
});

test("what ptxas says of a kernel without shared memory is not mixed with the next one's", () => {
  const report = `
ptxas info    : Compiling entry function '_Z1av' for 'sm_90'
ptxas info    : Function properties for _Z1av
    8 bytes stack frame, 28 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 80 registers, used 0 barriers, 8 bytes cumulative stack size
ptxas info    : Compiling entry function '_Z1bv' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 640 bytes smem`;
  expect([...readPtxasReport(report)]).toEqual([
    ['_Z1av', { stack: 8, spills: 32, registers: 80, shared: 0 }],
    ['_Z1bv', { stack: 0, spills: 0, registers: 32, shared: 640 }],
  ]);
});

// From cudaOccMaxActiveBlocksPerMultiprocessor of CUDA 13.0's cuda_occupancy.h, which agreed with residentBlocks in all
// 1080 combinations of these architectures, nine numbers of registers, six of threads and five of bytes.
test.each([
  // architecture, registers, threads, shared bytes, blocks; what limits them
  [80, 16, 32, 0, 32], // blocks
  [90, 16, 256, 0, 8], // warps
  [100, 40, 256, 192, 6], // registers, by partition
  [90, 88, 256, 192, 2],
  [90, 40, 96, 0, 16],
  [80, 128, 96, 0, 5],
  [90, 32, 128, 16384, 13], // shared memory
  [80, 32, 128, 16384, 9],
  [120, 32, 128, 16384, 5],
  [120, 16, 32, 0, 24],
  [120, 32, 256, 192, 6],
  [80, 255, 512, 0, 0], // more registers than there are
])(
  'an SM of sm_%i holds blocks of %i registers, %i threads, %i bytes: %i',
  (architecture, registers, threads, shared, blocks) => {
    expect(residentBlocks(architecture, { registers, threads, shared })).toBe(blocks);
  },
);

describe('the budget', () => {
  const row = {
    ...({ pass: 'forward', dtype: 'bf16', architecture: 90 } as const),
    ...{ registers: 64, shared: 0, threads: 256, residentBlocks: 4, limit: 9 },
    ...{ instructions: 288, elements: 32, rare: 40, rareParts: 1, divergence: 2, float64: 0, local: 0, loadBytes: 64 },
  };

  test.each([
    [{ instructions: 289 }, '9.03 instructions per element, at most 9'],
    [{ divergence: 3 }, '3 BSSY and BSYNC outside the rare parts, at most 2'],
    [{ divergence: 1, rareParts: 0 }, '1 BSSY and BSYNC outside the rare parts, at most 0'],
    [{ float64: 1 }, '1 float64 instructions outside the rare parts, at most 0'],
    [{ local: 1 }, '1 accesses to local memory, at most 0'],
    [{ elements: 0 }, 'Infinity instructions per element, at most 9'],
  ])('%o exceeds it', (change, excess) => {
    expect(excesses({ ...row, ...change })).toEqual([`forward bf16, sm_90: ${excess}`]);
  });

  test('is kept by figures that equal the limits', () => {
    expect(excesses(row)).toEqual([]);
  });

  test('is for code that is compiled as CMakeLists.txt does', () => {
    const cmake = readFileSync(join(root, 'CMakeLists.txt'), 'utf8');
    expect(FLAGS).toEqual(['-std=c++20', '-O3', '-Inative']);
    expect(cmake).toContain('$<$<COMPILE_LANGUAGE:CUDA>:-O3 -Xcompiler=-Wall,-Wextra -Xptxas=-v>');
    expect(cmake).toContain('CUDA_STANDARD 20 ');
  });
});

describe('npm run check:sass', () => {
  const lean: FakeKernel = { listing: WITH_RARE_PART };
  const everyKernel = Object.fromEntries(
    KERNEL_NAMES.map((name) => [name, name.includes('one_pass') ? { listing: TWO_LOOPS } : lean]),
  );
  const [forwardBf16, second] = KERNEL_NAMES;

  function check(kernels: Record<string, FakeKernel>, ...args: string[]) {
    const folder = fakeNvcc(kernels);
    folders.push(folder);
    const env = { ...process.env, PATH: `${join(folder, 'bin')}:${process.env.PATH}` };
    const options = { cwd: folder, env, encoding: 'utf8' } as const;
    return { folder, ...spawnSync(process.execPath, [join(root, 'scripts/check-sass.mjs'), ...args], options) };
  }

  test('passes within the budget, and writes what docs/performance.md shows', () => {
    const { folder, status, stdout, stderr } = check(everyKernel, '--json', 'sass.json');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).not.toContain('FAIL');
    const { rows, nvcc } = checkSassResult(JSON.parse(readFileSync(join(folder, 'sass.json'), 'utf8')));
    expect(nvcc).toBe('99.1.2');
    expect(rows).toHaveLength(KERNEL_NAMES.length * architectures.length);
    const figures = { instructions: 59, elements: 16, registers: 64, shared: 192, threads: 256, loadBytes: 64 };
    for (const row of rows) expect(row).toMatchObject({ ...figures, residentBlocks: 4 });
    expect(new Set(rows.map(({ pass }) => pass)).size).toBe(6);
    const file = join(folder, 'sass.json');
    const { rows: written } = JSON.parse(readFileSync(file, 'utf8'));
    expect(isOutdated(file, nvcc, written)).toBe(false);
    expect(isOutdated(file, nvcc, written.slice(1))).toBe(true);
    expect(isOutdated(file, 'another', written.slice(1))).toBe(false);
    expect(isOutdated(join(folder, 'missing.json'), nvcc, written)).toBe(false);
  });

  test('fails above it, by kernel, architecture, figure and limit', () => {
    const slow = { listing: WITH_RARE_PART.replace('FFMA x20', 'FFMA x126') };
    const { status, stdout } = check({ ...everyKernel, [forwardBf16]: slow, [second]: { ...lean, spills: 4 } });
    expect(status).toBe(1);
    const failures = stdout.split('\n').filter((line) => line.startsWith('FAIL'));
    expect(failures.filter((line) => line.includes('instructions'))).toEqual([
      'FAIL  forward bf16, sm_90: 10.31 instructions per element, at most 9',
      'FAIL  forward bf16, sm_100: 10.31 instructions per element, at most 9',
    ]);
    expect(failures.filter((line) => line.includes('0 bytes of stack and 4 of spills'))).toHaveLength(2 * 4); // in both sources
    expect(failures).toHaveLength(10);
  });

  test('does not pass over a kernel that is gone or has no loop', () => {
    const { [forwardBf16]: _, ...others } = everyKernel;
    expect(check(others).stderr).toContain('0 kernels match');
    const { status, stderr } = check({ ...everyKernel, [forwardBf16]: { listing: 'MUFU.EX2\nEXIT' } });
    expect(status).toBe(1);
    expect(stderr).toMatch(/no loop with exponentials in .*forward_kernel<.*Bf16Bits>, false>/);
  });

  test('says that it did not run where there is no nvcc', () => {
    const args = [join(root, 'scripts/check-sass.mjs')];
    const { status, stdout } = spawnSync(process.execPath, args, { env: { PATH: '/nowhere' }, encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'not run: no nvcc on PATH\n' });
  });
});

describe.skipIf(!onPath('nvcc'))('code that nvcc made', () => {
  test.each(architectures)('is read rightly for sm_%i', (architecture) => {
    const folder = fakeNvcc({});
    folders.push(folder);
    writeFileSync(join(folder, 'sums.cu'), SUMS);
    const [kernel] = compile('sums.cu', architecture, folder);
    expect(kernel).toMatchObject({ demangled: 'sums', threads: 96, shared: 128, stack: 0, spills: 0 });
    const figures = loopFigures(kernel.code.map((words, i) => decode(words, i, architecture)));
    expect(figures).toMatchObject({ elements: 16, loadBytes: 64, rareParts: 1, float64: 0, local: 0 });
    // An addition and a subtraction for each element are in the loop, and float64's exp2 is in what is rare of it.
    expect(figures?.rare).toBeGreaterThan(20);
    expect(perElement({ ...figures!, instructions: figures!.instructions - figures!.rare })).toBeGreaterThan(3);
  });
});
