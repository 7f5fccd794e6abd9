#include "cpu/simd/portable.h"
#include "cpu/token_log_probs_rows.h"

namespace rlvr {

const TokenLogProbsRows token_log_probs_rows_portable = make_rows<portable::Simd>();

}  // namespace rlvr
