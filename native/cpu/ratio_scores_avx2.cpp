#include "cpu/ratio_scores_rows.h"

namespace rlvr {

void ratio_scores_rows_avx2(const RatioScoresForward& op, int64_t begin, int64_t end) {
  ratio_scores_rows(op, begin, end);
}

}  // namespace rlvr
