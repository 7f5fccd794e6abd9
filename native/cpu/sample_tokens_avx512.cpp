#include "cpu/sample_tokens_rows.h"
#include "cpu/simd/avx512.h"

namespace rlvr {

const SampleTokensRows sample_tokens_rows_avx512 = make_sampled_rows<avx512::Simd>();

}  // namespace rlvr
