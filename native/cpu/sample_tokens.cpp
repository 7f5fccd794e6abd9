// Tokens drawn at random on the CPU: a row at a time, rows spread over threads. The row is read for its sum, as token-log-probs reads it,
// and again, from the cache, for the mass of every block; then only the block is read that the number drawn falls into. What filters keep
// of a row is gathered first (sampled_cut.cpp), and is the row. So log-probs are those of token-log-probs, to the bit.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "cpu/ops.h"
#include "cpu/per_thread.h"
#include "cpu/sampled_cut.h"
#include "cpu/thread_pool.h"
#include "cpu/token_log_probs_simd.h"

namespace rlvr::cpu {
namespace {

// Roughly what a row takes.
double nanoseconds(int64_t vocab, bool filters) {
  return 200 + (filters ? 1.5 : 0.5) * static_cast<double>(vocab);
}

int64_t size_of(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

template <class Op>
SampledRow row_of(const Op& op, int64_t t) {
  return {static_cast<const char*>(op.logits) + t * op.row_stride * size_of(op.dtype), op.dtype, op.vocab};
}

// Memory for one row at a time, of this thread's, which it keeps.
struct RowMemory {
  RowCutter cutter;
  std::vector<unsigned char> kept;  // elements
  std::vector<double> masses;       // of blocks
};

// The elements at these places, as a row.
template <class Element>
SampledRow gathered(const SampledRow& row, const int32_t* places, int64_t count, std::vector<unsigned char>& memory) {
  if (memory.size() < static_cast<size_t>(count) * sizeof(Element)) memory.resize(static_cast<size_t>(count) * sizeof(Element));
  auto* elements = reinterpret_cast<Element*>(memory.data());
  for (int64_t i = 0; i < count; ++i) elements[i] = static_cast<const Element*>(row.elements)[places[i]];
  return {elements, row.dtype, count};
}

// The first block up to which there is more than `goal`, which becomes what is left of it; the last with any if there never is.
int64_t block_at(const std::vector<double>& masses, double& goal) {
  int64_t last = 0;
  double before = 0;
  double before_last = 0;
  for (size_t block = 0; block < masses.size(); ++block) {
    if (masses[block] > 0) {
      last = static_cast<int64_t>(block);
      before_last = before;
    }
    before += masses[block];
    if (before > goal) break;
  }
  goal -= before_last;
  return last;
}

// The place in the row at which `share` of its mass is passed.
int32_t place_at(const SampledRow& row, const SampledScale& scale, double share, std::vector<double>& masses) {
  masses.resize(static_cast<size_t>((row.count + kSampleBlock - 1) / kSampleBlock));
  sample_tokens_rows().masses(row, scale, masses.data());
  double goal = share * std::accumulate(masses.begin(), masses.end(), 0.0);
  const int64_t block = block_at(masses, goal);
  float terms[kSampleBlock];
  sample_tokens_rows().terms(row, scale, block, terms);
  const int64_t begin = block * kSampleBlock;
  const int64_t count = std::min(row.count - begin, kSampleBlock);
  int64_t place = 0;
  double sum = 0;
  for (int64_t i = 0; i < count && !(sum > goal); ++i) {
    if (terms[i] > 0) place = i;
    sum += static_cast<double>(terms[i]);
  }
  return static_cast<int32_t>(begin + place);
}

// What is drawn from a row: where it is, and its log-prob. False for a row that is not finite.
struct Draw {
  int32_t place;
  double log_prob;
};

bool draw(const SampledRow& row, double temperature, double share, std::vector<double>& masses, Draw& drawn) {
  float reference = 0;
  double rest = 0;
  if (!token_log_probs_rows().sums(row.elements, row.dtype, row.count, temperature, reference, rest)) return false;
  const double inverse_temperature = 1 / temperature;
  drawn.place = place_at(row, {reference, inverse_temperature}, share, masses);
  const double distance = static_cast<double>(element_of(row, drawn.place)) - static_cast<double>(reference);
  drawn.log_prob = distance * inverse_temperature - std::log1p(rest);
  return std::isfinite(drawn.log_prob);
}

// The id drawn in row t, as its place; where the row is cut, and how many ids that keeps.
bool sample_row(const SampleTokens& op, int64_t t, Draw& drawn, Cut& cut, int64_t& count) {
  RowMemory& memory = per_thread<RowMemory>();
  RowCutter& cutter = memory.cutter;
  const SampledRow row = row_of(op, t);
  const double share = uniform(op.seed, op.offset + static_cast<uint64_t>(t));
  if (has_filters(op)) {
    if (!cutter.look(row, 1 / op.temperature)) return false;
    cut = cutter.cut(op);
  }
  if (cut.id < 0) return draw(row, op.temperature, share, memory.masses, drawn);
  count = cutter.keep(cut);
  if (count == 0) return false;  // changed under us
  const auto gather = op.dtype == DType::kF32 ? gathered<float> : gathered<uint16_t>;
  if (!draw(gather(row, cutter.places(), count, memory.kept), op.temperature, share, memory.masses, drawn)) return false;
  drawn.place = cutter.places()[drawn.place];
  return true;
}

void write_row(const SampleTokens& op, int64_t t) {
  Draw drawn{-1, 0};
  Cut cut{-INFINITY, -1};
  int64_t count = 0;
  const bool finite = sample_row(op, t, drawn, cut, count);
  op.ids[t] = finite ? drawn.place : -1;
  op.log_probs[t] = finite ? drawn.log_prob : 0;
  if (op.cut_logits == nullptr) return;
  op.cut_logits[t] = cut.logit;
  op.cut_ids[t] = cut.id;
  op.kept_counts[t] = finite ? static_cast<int32_t>(count) : 0;
}

void write_kept(const SampleTokensKept& op, int64_t t) {
  const int64_t begin = op.cu_kept[t];
  const int64_t count = op.cu_kept[t + 1] - begin;
  if (count == 0) return;
  RowCutter& cutter = per_thread<RowMemory>().cutter;
  if (!cutter.look(row_of(op, t), 1)) return;  // changed under us
  const int64_t found = cutter.keep({op.cut_logits[t], op.cut_ids[t]});
  std::copy_n(cutter.places(), std::min(count, found), op.kept_ids + begin);
}

}  // namespace

void sample_tokens(const SampleTokens& op) {
  parallel_for(op.tokens, nanoseconds(op.vocab, has_filters(op)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t) write_row(op, t);
  });
}

void sample_tokens_kept(const SampleTokensKept& op) {
  parallel_for(op.tokens, nanoseconds(op.vocab, false), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end && !cancelled(op.cancel); ++t) write_kept(op, t);
  });
}

}  // namespace rlvr::cpu
