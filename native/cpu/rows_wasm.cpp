// The rows of token-log-probs and of linear-log-probs in one file: they share loops, which need not be there twice.
#include "cpu/linear_log_probs_rows.h"
#include "cpu/simd/wasm.h"
#include "cpu/token_log_probs_rows.h"

namespace rlvr {

const TokenLogProbsRows token_log_probs_rows_wasm = make_rows<wasm::Simd>();
const LinearKernels linear_kernels_wasm = make_linear_kernels<wasm::Simd, 4>();

}  // namespace rlvr
