// The kernels that have a budget of machine instructions, and the budget. They are known by their demangled names.
//
// The budget is what lets memory be the limit: a chip that reads its memory at full speed has time for so many instructions
// per element (docs/performance.md has the arithmetic), of which real loops issue about two thirds.

/** @typedef {import('../../bench/report/sass-result.js').SassRow} SassRow */
/** @typedef {SassRow['dtype']} Dtype */
/** @typedef {{ pass: SassRow['pass'], source: string, name: RegExp, loops?: 2, perElement: Record<Dtype, number> }} Budgeted */

const TOKEN_LOG_PROBS = 'native/cuda/token_log_probs.cu';
const ONE_PASS = 'native/cuda/one_pass.cu';

/** @type {readonly Budgeted[]} */
export const KERNELS = [
  {
    pass: 'forward',
    source: TOKEN_LOG_PROBS,
    name: /\bforward_kernel<.*, false>\(/,
    perElement: { bf16: 9, f16: 9, f32: 14 },
  },
  {
    pass: 'forward with entropy',
    source: TOKEN_LOG_PROBS,
    name: /\bforward_kernel<.*, true>\(/,
    perElement: { bf16: 10.5, f16: 10.5, f32: 15.5 }, // the entropy may cost 1.5, whatever the type
  },
  {
    pass: 'backward',
    source: TOKEN_LOG_PROBS,
    name: /\bbackward_kernel<.*, false>\(/,
    perElement: { bf16: 9, f16: 9, f32: 9 },
  },
  {
    pass: 'backward with entropy',
    source: TOKEN_LOG_PROBS,
    name: /\bbackward_kernel<.*, true>\(/,
    perElement: { bf16: 9, f16: 9, f32: 9 },
  },
  // The forward pass, then the backward pass, with the budgets of both.
  {
    pass: 'one pass',
    source: ONE_PASS,
    name: /\bone_pass_kernel<.*, false>\(/,
    loops: 2,
    perElement: { bf16: 18, f16: 18, f32: 23 },
  },
  {
    pass: 'one pass with entropy',
    source: ONE_PASS,
    name: /\bone_pass_kernel<.*, true>\(/,
    loops: 2,
    perElement: { bf16: 19.5, f16: 19.5, f32: 24.5 },
  },
];

/** By a part of the kernel's template arguments. @type {Readonly<Record<Dtype, RegExp>>} */
export const DTYPES = { bf16: /\bBf16Bits\b/, f16: /\bF16Bits\b/, f32: /\bF32\b/ };

/** 90 for sm_90, with the factor on its budgets: the main two have them as they are. @type {ReadonlyMap<number, number>} */
export const ARCHITECTURES = new Map([
  [80, 1.25],
  [90, 1],
  [100, 1],
  [120, 1.25],
]);
