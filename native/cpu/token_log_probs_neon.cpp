#include "cpu/simd/neon.h"
#include "cpu/token_log_probs_rows.h"

namespace rlvr {

const TokenLogProbsRows token_log_probs_rows_neon = make_rows<neon::Simd>();

}  // namespace rlvr
