#include "cpu/ratio_scores_rows.h"

namespace rlvr {

const RatioScoresRows ratio_scores_rows_avx512 = ratio_scores_rows;

}  // namespace rlvr
