// The loops over rows of three ops in one file: they share some, which need not be there twice.
#include "cpu/linear_log_probs_rows.h"
#include "cpu/sample_tokens_rows.h"
#include "cpu/simd/wasm.h"
#include "cpu/token_log_probs_rows.h"

namespace rlvr {

const TokenLogProbsRows token_log_probs_rows_wasm = make_rows<wasm::Simd>();
const LinearKernels linear_kernels_wasm = make_linear_kernels<wasm::Simd, 4>();
const SampleTokensRows sample_tokens_rows_wasm = make_sampled_rows<wasm::Simd>();

}  // namespace rlvr
