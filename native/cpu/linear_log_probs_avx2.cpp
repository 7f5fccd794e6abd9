#include "cpu/linear_log_probs_rows.h"
#include "cpu/simd/avx2.h"

namespace rlvr {

const LinearKernels linear_kernels_avx2 = make_linear_kernels<avx2::Simd, 6>();

}  // namespace rlvr
