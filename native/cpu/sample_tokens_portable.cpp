#include "cpu/sample_tokens_rows.h"
#include "cpu/simd/portable.h"

namespace rlvr {

const SampleTokensRows sample_tokens_rows_portable = make_sampled_rows<portable::Simd>();

}  // namespace rlvr
