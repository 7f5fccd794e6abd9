// Machine code for test/check-sass.test.ts, made without nvcc: listings in place of kernels, cubins that hold them, and a
// command that hands these out in nvcc's place.
import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Words } from '../../scripts/sass/cubin.mjs';

/** Low and high words that nvcc 13.0 wrote for these instructions. Branches are without their targets. */
const WORDS: Readonly<Record<string, readonly [low: bigint, high: bigint]>> = {
  FFMA: [0x0000000800007c23n, 0x100fe20008000811n],
  DADD: [0x000000000a0a7229n, 0x000fc6000000000an],
  LDG: [0x000000040a087981n, 0x000ea2000c0e1d00n], // of 16 bytes
  STG: [0x001f400c04007986n, 0x004fe2000c101d04n],
  LDL: [0x00000000190b7983n, 0x000ea20000100800n],
  'MUFU.EX2': [0x0000000000057308n, 0x000e220000000800n],
  BSSY: [0x0000000000007945n, 0x000fe20003800000n],
  BSYNC: [0x0000000000007941n, 0x000fea0003800000n],
  BRA: [0x0000000000007947n, 0x000fea0003800000n],
  '@P0 BRA': [0x0000000000000947n, 0x000fea0003800000n],
  BRX: [0x0000000000007949n, 0x000fea0003800000n],
  EXIT: [0x000000000000794dn, 0x000fea0003800000n],
};

const UPPER_WIDTH = 30n; // bits of a target in the low word, above the 34 that it does not have

/** The words of a branch over `distance` instructions. */
function branch([low, high]: readonly [bigint, bigint], distance: number, architecture: number): Words {
  const words = BigInt(distance) * 4n;
  const wide = architecture >= 90;
  const near = wide ? words >> 8n : words;
  const beside = wide ? (words & 0xffn) << 16n : 0n;
  return {
    low: low | beside | BigInt.asUintN(64, near << 34n),
    high: high | (BigInt.asUintN(48, near) >> UPPER_WIDTH),
  };
}

/**
 * `label: OP [xCOUNT | target]`, a line each; a branch to a label is conditional with `@P0`.
 *
 *     loop: LDG
 *     MUFU.EX2 x8
 *     @P0 BRA loop
 *     EXIT
 */
export function assemble(listing: string, architecture = 90): Words[] {
  const labels = new Map<string, number>();
  const lines: { op: string; target?: string }[] = [];
  for (const line of listing.trim().split('\n')) {
    const [, label, op, argument] = /^\s*(?:(\w+):)?\s*((?:@P0 )?\S+)\s*(\S+)?\s*$/.exec(line) ?? [];
    if (label !== undefined) labels.set(label, lines.length);
    const count = /^x(\d+)$/.exec(argument ?? '')?.[1];
    lines.push(...Array.from({ length: Number(count ?? 1) }, () => ({ op, target: count ? undefined : argument })));
  }
  return lines.map(({ op, target }, i) => {
    const words = WORDS[op];
    if (words === undefined) throw new Error(`no words for ${op}`);
    if (target === undefined) return { low: words[0], high: words[1] };
    const to = labels.get(target);
    if (to === undefined) throw new Error(`no label ${target}`);
    return branch(words, to - i - 1, architecture);
  });
}

/** An ELF file with the parts of a cubin that are read. */
export function cubin(kernels: Readonly<Record<string, { threads: number; code: readonly Words[] }>>): Buffer {
  const sections = Object.entries(kernels).flatMap(([name, { threads, code }]) => [
    {
      name: `.text.${name}`,
      data: Buffer.from(BigUint64Array.from(code.flatMap(({ low, high }) => [low, high])).buffer),
    },
    { name: `.nv.info.${name}`, data: launchBounds(threads) },
  ]);
  const names = Buffer.from(`\0${sections.map(({ name }) => `${name}\0`).join('')}.names\0`);
  const all = [...sections, { name: '.names', data: names }];
  const header = Buffer.alloc(64);
  header.write('\x7fELF', 'latin1');
  const table = header.length + all.reduce((sum, { data }) => sum + data.length, 0);
  header.writeBigUInt64LE(BigInt(table), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(all.length, 0x3c);
  header.writeUInt16LE(all.length - 1, 0x3e);
  let offset = header.length;
  const entries = all.map(({ name, data }) => {
    const entry = Buffer.alloc(64);
    entry.writeUInt32LE(names.indexOf(`\0${name}\0`) + 1, 0);
    entry.writeBigUInt64LE(BigInt(offset), 24);
    entry.writeBigUInt64LE(BigInt(data.length), 32);
    offset += data.length;
    return entry;
  });
  return Buffer.concat([header, ...all.map(({ data }) => data), ...entries]);
}

/** Two records: a short one of an attribute of no interest, and the most threads of a block. */
function launchBounds(threads: number): Buffer {
  const info = Buffer.from([3, 0x1b, 0xff, 0, 4, 5, 12, 0, ...new Uint8Array(12)]);
  for (const [i, size] of [threads / 8, 4, 2].entries()) info.writeUInt32LE(size, 8 + 4 * i);
  return info;
}

const ELEMENTS = { bf16: 'NS0_6PackedINS0_8Bf16BitsEEE', f16: 'NS0_6PackedINS0_7F16BitsEEE', f32: 'NS0_3F32E' };

/** The mangled names of the kernels that have a budget. */
export const KERNEL_NAMES = Object.values(ELEMENTS).flatMap((element) =>
  (['14forward_kernel', '15backward_kernel', '15one_pass_kernel'] as const).flatMap((kernel) =>
    [0, 1].map((entropy) => `_ZN4rlvr4cuda12_GLOBAL__N_1${kernel}I${element}Lb${entropy}EEEvPf`),
  ),
);

export interface FakeKernel {
  listing: string;
  spills?: number;
}

/** A folder with an `nvcc` that gives these kernels whatever it is to compile, for every architecture. */
export function fakeNvcc(kernels: Readonly<Record<string, FakeKernel>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'rlvr-nvcc-'));
  for (const architecture of [80, 90, 100, 120]) {
    const code = Object.entries(kernels).map(([name, { listing }]) => {
      return [name, { threads: 256, code: assemble(listing, architecture) }] as const;
    });
    writeFileSync(join(folder, `sm_${architecture}.cubin`), cubin(Object.fromEntries(code)));
  }
  const report = Object.entries(kernels).map(
    ([name, { spills = 0 }]) => `ptxas info    : Compiling entry function '${name}' for 'sm_90'
    0 bytes stack frame, ${spills} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 192 bytes smem
`,
  );
  writeFileSync(join(folder, 'report'), report.join(''));
  mkdirSync(join(folder, 'bin'));
  const command = join(folder, 'bin', 'nvcc');
  writeFileSync(
    command,
    `#!/bin/sh
for argument; do
  case $argument in
    -arch=*) architecture=\${argument#-arch=} ;;
    --version) echo 'release 99.1, V99.1.2'; exit ;;
  esac
  output=$argument
done
cat '${folder}/report' >&2
exec cp "${folder}/$architecture.cubin" "$output"
`,
  );
  chmodSync(command, 0o755);
  return folder;
}

/** A kernel whose loop takes sixteen elements at a time, and moves a reference where it must. */
export const SUMS = `__device__ float ex2(float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
extern "C" __global__ __launch_bounds__(96) void sums(const uint4* p, int count, float* out, double* rest) {
  __shared__ float shared[32];
  float reference = -INFINITY, sum = 0;
  double moved = 1;
  for (int i = threadIdx.x; i < count; i += 96) {
    float x[16];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const uint4 v = p[4 * i + k];
      x[4 * k] = __uint_as_float(v.x), x[4 * k + 1] = __uint_as_float(v.y);
      x[4 * k + 2] = __uint_as_float(v.z), x[4 * k + 3] = __uint_as_float(v.w);
    }
    if (x[0] > reference) moved *= exp2(static_cast<double>(reference - x[0])), reference = x[0];
#pragma unroll
    for (int k = 0; k < 16; ++k) sum += ex2(x[k] - reference);
  }
  shared[threadIdx.x % 32] = sum;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x / 3];
  rest[threadIdx.x] = moved;
}`;
