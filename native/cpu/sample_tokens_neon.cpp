#include "cpu/sample_tokens_rows.h"
#include "cpu/simd/neon.h"

namespace rlvr {

const SampleTokensRows sample_tokens_rows_neon = make_sampled_rows<neon::Simd>();

}  // namespace rlvr
