#include "cpu/linear_log_probs_rows.h"
#include "cpu/simd/neon.h"

namespace rlvr {

const LinearKernels linear_kernels_neon = make_linear_kernels<neon::Simd, 12>();

}  // namespace rlvr
