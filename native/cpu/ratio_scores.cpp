// See ops/ratio_scores.h. Each score is a rule for one token (a term and its derivative) or, for the two
// exponentials of a mean, a rule for the sequence; masked tokens are never read.
#include <algorithm>

#include "cpu/ops.h"
#include "cpu/sequences.h"
#include "ops/ratio_rules.h"

namespace rlvr::cpu {
namespace {

using namespace ratio;

// Weighs in the sequence's ratio token by token; returns the mean.
double token_form_score(const RatioScoresForward& op, int64_t i, int64_t begin, int64_t end, double ratio,
                        double divisor, Sums& sums) {
  sums.value = 0;
  for (int64_t t = begin; t < end; ++t)
    if (unmasked(op.mask, t)) add_token_form(op, i, t, ratio, divisor, sums);
  return sums.value / divisor;
}

// A copy of the op whose choices are constants: no branch on them is left in the loops, and no store can change it.
template <RatioScore kKind, bool kStats>
RatioScoresForward specialized(RatioScoresForward op) {
  op.kind = kKind;
  if (!kStats) op.ratio_stats = nullptr;
  return op;
}

template <RatioScore kKind, bool kStats>
void score_sequence(const RatioScoresForward& general, int64_t i, int64_t begin, int64_t end) {
  const RatioScoresForward op = specialized<kKind, kStats>(general);
  Sums sums;
  for (int64_t t = begin; t < end; ++t) {
    op.score_grads[t] = 0;
    if (unmasked(op.mask, t)) add_token(op, i, t, sums);
  }
  const double divisor = std::max(sums.count, 1.0);
  if (token_form(op)) {
    op.scores[i] = token_form_score(op, i, begin, end, std::exp(sums.value / divisor), divisor, sums);
  } else {
    const Term score = sequence_score(op, sums.value / divisor, op.sides == nullptr ? 0 : op.sides[i]);
    const double factor = score.derivative / divisor;
    for (int64_t t = begin; t < end; ++t) op.score_grads[t] *= factor;
    op.scores[i] = score.value;
    if (score.clip == Clip::kLow) sums.low = sums.count;
    if (score.clip == Clip::kHigh) sums.high = sums.count;
  }
  op.token_counts[i] = sums.count;
  op.clipped_low[i] = static_cast<int32_t>(sums.low);
  op.clipped_high[i] = static_cast<int32_t>(sums.high);
  write_stats(op, i, sums);
}

template <RatioScore kKind>
void score_sequences(const RatioScoresForward& op) {
  for_each_sequence(op.cu_seqlens, op.sequences, op.cancel, [&](int64_t i, int64_t begin, int64_t end) {
    op.ratio_stats == nullptr ? score_sequence<kKind, false>(op, i, begin, end)
                              : score_sequence<kKind, true>(op, i, begin, end);
  });
}

}  // namespace

void ratio_scores_forward(const RatioScoresForward& op) {
  switch (op.kind) {
    case RatioScore::kRatio:
      return score_sequences<RatioScore::kRatio>(op);
    case RatioScore::kClipped:
      return score_sequences<RatioScore::kClipped>(op);
    case RatioScore::kSequence:
      return score_sequences<RatioScore::kSequence>(op);
    case RatioScore::kGeometric:
      return score_sequences<RatioScore::kGeometric>(op);
    case RatioScore::kStopped:
      return score_sequences<RatioScore::kStopped>(op);
    case RatioScore::kSoftGate:
      return score_sequences<RatioScore::kSoftGate>(op);
    case RatioScore::kK1:
      return score_sequences<RatioScore::kK1>(op);
    case RatioScore::kK2:
      return score_sequences<RatioScore::kK2>(op);
    case RatioScore::kK3:
      return score_sequences<RatioScore::kK3>(op);
  }
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
