#include "cpu/simd/avx512.h"
#include "cpu/token_log_probs_rows.h"

namespace rlvr {

const TokenLogProbsRows token_log_probs_rows_avx512 = make_rows<avx512::Simd>();

}  // namespace rlvr
