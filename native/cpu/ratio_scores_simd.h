// The instruction-set versions of ratio-scores' loops; ratio_scores.cpp picks one.
#pragma once

#include "ops/ratio_scores.h"

namespace rlvr {

// Sequences [begin, end).
using RatioScoresRows = void (*)(const RatioScoresForward& op, int64_t begin, int64_t end);

extern const RatioScoresRows ratio_scores_rows_portable;
#ifdef RLVR_HAVE_AVX2
extern const RatioScoresRows ratio_scores_rows_avx2;
extern const RatioScoresRows ratio_scores_rows_avx512;
#endif

}  // namespace rlvr
