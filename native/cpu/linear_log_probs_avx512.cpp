#include "cpu/linear_log_probs_rows.h"
#include "cpu/simd/avx512.h"

namespace rlvr {

const LinearKernels linear_kernels_avx512 = make_linear_kernels<avx512::Simd, 14>();

}  // namespace rlvr
