// See ops/ratio_scores.h. Each score is a rule for one token (a term and its derivative) or, for the two
// exponentials of a mean, a rule for the sequence; masked tokens are never read.
#include <algorithm>

#include "cpu/ops.h"
#include "cpu/sequences.h"
#include "ops/ratio_rules.h"

namespace rlvr::cpu {
namespace {

using namespace ratio;

void score_sequence(const RatioScoresForward& op, int64_t i, int64_t begin, int64_t end) {
  const double side = op.sides == nullptr ? 0 : op.sides[i];
  const double count = count_unmasked(op.mask, begin, end);
  const double divisor = std::max(count, 1.0);
  int32_t clipped[3] = {0, 0, 0};
  double sum = 0;
  for (int64_t t = begin; t < end; ++t) {
    op.score_grads[t] = 0;
    if (!unmasked(op.mask, t)) continue;
    const LogRatio d = log_ratio(op, t);
    const Term term = token_term(op, d.value, side, t);
    sum += term.value;
    // Selected, not multiplied. The stopped ratio's weight is a constant: the clamp on d does not stop its gradient.
    const bool flows = !d.clamped || op.kind == RatioScore::kStopped;
    op.score_grads[t] = flows ? term.derivative : 0;
    ++clipped[static_cast<int>(term.clip)];
  }
  const Term score = sequence_score(op, sum / divisor, side);
  const double factor = score.derivative / divisor;
  for (int64_t t = begin; t < end; ++t) op.score_grads[t] *= factor;
  if (score.clip != Clip::kNone) clipped[static_cast<int>(score.clip)] = static_cast<int32_t>(count);
  op.scores[i] = score.value;
  op.token_counts[i] = count;
  op.clipped_low[i] = clipped[static_cast<int>(Clip::kLow)];
  op.clipped_high[i] = clipped[static_cast<int>(Clip::kHigh)];
}

}  // namespace

void ratio_scores_forward(const RatioScoresForward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel,
                    [&](int64_t i, int64_t begin, int64_t end) { score_sequence(op, i, begin, end); });
}

void ratio_scores_backward(const RatioScoresBackward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel, [&](int64_t i, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const double gradient = op.grad_scores[i] * op.score_grads[t];
      op.grad_log_probs[t] = (op.accumulate ? op.grad_log_probs[t] : 0) + gradient;
    }
  });
}

}  // namespace rlvr::cpu
