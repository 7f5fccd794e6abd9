#include "cpu/sample_tokens_rows.h"
#include "cpu/simd/avx2.h"

namespace rlvr {

const SampleTokensRows sample_tokens_rows_avx2 = make_sampled_rows<avx2::Simd>();

}  // namespace rlvr
