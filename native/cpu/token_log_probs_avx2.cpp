#include "cpu/simd/avx2.h"
#include "cpu/token_log_probs_rows.h"

namespace rlvr {

const TokenLogProbsRows token_log_probs_rows_avx2 = make_rows<avx2::Simd>();

}  // namespace rlvr
