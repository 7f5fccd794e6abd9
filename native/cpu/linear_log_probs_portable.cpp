#include "cpu/linear_log_probs_rows.h"
#include "cpu/simd/portable.h"

namespace rlvr {

const LinearKernels linear_kernels_portable = make_linear_kernels<portable::Simd, 4>();

}  // namespace rlvr
