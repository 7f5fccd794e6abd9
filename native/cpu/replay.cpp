#include "cpu/replay.h"

#include <cstring>

#include "cpu/row_scratch.h"
#include "cpu/token_log_probs_simd.h"

namespace rlvr::cpu {
namespace {

// The kept logits of one row after another, as `Bits` of whichever type.
template <class Bits>
class KeptRow {
 public:
  template <class Op>
  explicit KeptRow(const Op& op)
      : replay_(op.replay), logits_(static_cast<const Bits*>(op.logits)), stride_(op.row_stride), vocab_(op.vocab) {}

  // Ids outside the vocabulary were changed under us: they are not read, nor is the row's target found.
  void gather(int64_t t, int32_t target) {
    ids_ = replay_.kept_ids + replay_.cu_kept[t];
    count_ = kept_count(replay_, t);
    elements_ = reinterpret_cast<Bits*>(row_scratch(count_));
    target_ = target == kNoTarget ? kNoTarget : kLost;
    bool within = true;
    for (int64_t k = 0; k < count_; ++k) {
      const int32_t id = ids_[k];
      within = within && has(id);
      elements_[k] = has(id) ? logits_[t * stride_ + id] : Bits{0};
      if (id == target) target_ = static_cast<int32_t>(k);
    }
    if (!within) target_ = kLost;
  }

  // The row becomes 0 but for what was gathered, which has been changed since.
  void scatter(Bits* row) const {
    std::memset(row, 0, static_cast<size_t>(vocab_) * sizeof(Bits));
    for (int64_t k = 0; k < count_; ++k)
      if (const int32_t id = ids_[k]; has(id)) row[id] = elements_[k];
  }

  Bits* elements() const { return elements_; }
  int64_t count() const { return count_; }
  const int32_t* target() const { return &target_; }  // its place among the elements

 private:
  static constexpr int32_t kLost = kNoTarget - 1;

  bool has(int32_t id) const { return id >= 0 && id < vocab_; }

  Replay replay_;
  const Bits* logits_;
  int64_t stride_;
  int64_t vocab_;
  const int32_t* ids_ = nullptr;
  int64_t count_ = 0;
  Bits* elements_ = nullptr;
  int32_t target_ = kLost;
};

template <class T>
T* from(T* array, int64_t t) {
  return array == nullptr ? nullptr : array + t;
}

bool masked(const uint8_t* mask, int64_t t) { return mask != nullptr && mask[t] == 0; }

// Row t alone, of what is kept of it.
template <class Bits, class Op>
Op only_kept(const Op& op, int64_t t, const KeptRow<Bits>& kept) {
  Op row = op;
  row.logits = kept.elements();
  row.tokens = 1;
  row.vocab = row.row_stride = kept.count();
  row.targets = kept.target();
  row.mask = from(op.mask, t);
  row.log_sum_exp = op.log_sum_exp + t;
  row.entropy = from(op.entropy, t);
  return row;
}

template <class Bits>
void forward_rows(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  const TokenLogProbsRows& rows = token_log_probs_rows();
  KeptRow<Bits> kept(op);
  for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t) {
    if (kept_count(op.replay, t) == 0 || masked(op.mask, t)) {
      rows.forward(op, t, t + 1);
      continue;
    }
    kept.gather(t, op.targets[t]);
    TokenLogProbsForward row = only_kept(op, t, kept);
    row.log_probs = op.log_probs + t;
    row.kept = op.kept + t;
    rows.forward(row, 0, 1);
  }
}

// Returns whether row t is finite.
template <class Bits>
bool backward_row(const TokenLogProbsBackward& op, int64_t t, KeptRow<Bits>& kept, const TokenLogProbsRows& rows) {
  const bool zero = masked(op.mask, t) || (op.grad_log_probs[t] == 0 && (op.grad_entropy == nullptr || op.grad_entropy[t] == 0));
  if (kept_count(op.replay, t) == 0 || zero) return rows.backward(op, t, t + 1) != t;
  kept.gather(t, op.targets[t]);
  TokenLogProbsBackward row = only_kept(op, t, kept);
  row.grad_log_probs = op.grad_log_probs + t;
  row.grad_entropy = from(op.grad_entropy, t);
  row.grad_logits = kept.elements();
  row.grad_row_stride = kept.count();
  const bool finite = rows.backward(row, 0, 1) != 0;
  kept.scatter(static_cast<Bits*>(op.grad_logits) + t * op.grad_row_stride);
  return finite;
}

template <class Bits>
int64_t backward_rows(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
  const TokenLogProbsRows& rows = token_log_probs_rows();
  KeptRow<Bits> kept(op);
  int64_t first = end;
  for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t)
    if (!backward_row(op, t, kept, rows) && first == end) first = t;
  return first;
}

}  // namespace

void replay_forward(const TokenLogProbsForward& op, int64_t begin, int64_t end) {
  if (op.dtype == DType::kF32) return forward_rows<float>(op, begin, end);
  forward_rows<uint16_t>(op, begin, end);
}

int64_t replay_backward(const TokenLogProbsBackward& op, int64_t begin, int64_t end) {
  return op.dtype == DType::kF32 ? backward_rows<float>(op, begin, end) : backward_rows<uint16_t>(op, begin, end);
}

int64_t elements_in_order(const Replay& replay, int64_t tokens, int64_t vocab) {
  constexpr int64_t kScattered = 64;  // of them, in the time of one that is in a cache line and page of its own
  if (replay.cu_kept == nullptr || tokens == 0) return vocab;
  int64_t whole = 0;  // rows
  for (int64_t t = 0; t < tokens; ++t) whole += kept_count(replay, t) == 0 ? 1 : 0;
  return kScattered * replay.cu_kept[tokens] / tokens + whole * vocab / tokens;
}

}  // namespace rlvr::cpu
