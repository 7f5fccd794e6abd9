// Each filter keeps the fewest likeliest elements whose weights reach a goal: k of weight 1, or a share of the mass. The last of them is
// sought among candidates: what is above a bound that is known to be low enough, or else what falls into the bin in which a histogram of
// the whole row reaches the goal. Candidates are binned again until few are left, or equal ones, which are in order. No row is sorted.
#include "cpu/sampled_cut.h"

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <functional>
#include <numeric>

#include "cpu/float16.h"
#include "cpu/simd_table.h"

namespace rlvr::cpu {
namespace {

constexpr Cut kNothing{-INFINITY, -1};  // is cut away, but for -inf

// The least float that is not less, and not -inf.
float least_float(double logit) {
  auto x = static_cast<float>(logit);
  if (static_cast<double>(x) < logit) x = std::nextafter(x, INFINITY);
  return std::max(x, -FLT_MAX);
}

}  // namespace

const SampleTokensRows& sample_tokens_rows() { return RLVR_SIMD_TABLE(sample_tokens_rows); }

float element_of(const SampledRow& row, int64_t place) {
  if (row.dtype == DType::kF32) return static_cast<const float*>(row.elements)[place];
  const uint16_t bits = static_cast<const uint16_t*>(row.elements)[place];
  return row.dtype == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

bool RowCutter::look(const SampledRow& row, double inverse_temperature) {
  if (row.count == 0) return false;
  row_ = row;
  maxima_.resize(static_cast<size_t>((row.count + kSampleBlock - 1) / kSampleBlock));
  const bool finite = sample_tokens_rows().maxima(row, maxima_.data());
  scale_ = {*std::max_element(maxima_.begin(), maxima_.end()), inverse_temperature};
  return finite && scale_.reference > -INFINITY;
}

Cut RowCutter::cut(const SampleTokens& op) {
  Cut cut = kNothing;
  if (op.top_k < row_.count) cut = top_k(op.top_k);
  if (op.top_p < 1) cut = tighter(cut, top_p(op.top_p, cut));
  if (std::isfinite(op.min_distance))
    cut = tighter(cut, {static_cast<double>(scale_.reference) + op.min_distance, INT_MAX});
  return drops(cut) ? cut : kNothing;
}

int64_t RowCutter::keep(const Cut& cut) {
  const int64_t count = places_from(cut.logit);
  const auto end = places_.begin() + count;
  return std::remove_if(places_.begin(), end,
                        [&](int32_t place) {
                          return !keeps(cut, static_cast<double>(element_of(row_, place)), place);
                        }) -
         places_.begin();
}

// As many blocks have a maximum of at least that of the k-th: so many elements are above it, or more.
Cut RowCutter::top_k(int64_t k) {
  auto goal = static_cast<double>(k);
  if (k > static_cast<int64_t>(maxima_.size())) {
    goal = nearest_bin(goal, false);
  } else {
    std::vector<float> maxima = maxima_;
    std::nth_element(maxima.begin(), maxima.begin() + (k - 1), maxima.end(), std::greater<>());
    add_candidates(places_from(static_cast<double>(maxima[static_cast<size_t>(k - 1)])), false);
  }
  return edge(goal);
}

Cut RowCutter::top_p(double share, const Cut& of) {
  if (of.logit == kNothing.logit) return edge(nearest_bin(share, true));
  add_candidates(keep(of), true);
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  return edge(share * total);
}

// Makes candidates of the elements at the first `count` places.
void RowCutter::add_candidates(int64_t count, bool masses) {
  candidates_.clear();
  for (int64_t i = 0; i < count; ++i) {
    const int32_t place = places_[static_cast<size_t>(i)];
    const float logit = element_of(row_, place);
    if (logit == -INFINITY) continue;
    const double distance = static_cast<double>(logit) - static_cast<double>(scale_.reference);
    candidates_.push_back({logit, place, masses ? std::exp(distance * scale_.inverse_temperature) : 1});
  }
}

// Makes candidates of the elements in the bin of the row in which the goal is reached, a number of elements or a share of the mass;
// returns what of it is left for them.
double RowCutter::nearest_bin(double goal, bool masses) {
  bins_.resize(kSampleBins);
  make_room();
  sample_tokens_rows().histogram(row_, scale_, masses, bins_.data());
  if (masses) goal *= std::accumulate(bins_.begin(), bins_.end(), 0.0);
  int bin = 0;
  for (; bin < kSampleBins - 1 && bins_[static_cast<size_t>(bin)] < goal; ++bin) goal -= bins_[static_cast<size_t>(bin)];
  add_candidates(sample_tokens_rows().places_in(row_, scale_, bin, places_.data()), masses);
  return goal;
}

void RowCutter::make_room() {
  if (places_.size() < static_cast<size_t>(row_.count)) places_.resize(static_cast<size_t>(row_.count));
}

int64_t RowCutter::places_from(double logit) {
  make_room();
  return sample_tokens_rows().places_from(row_, least_float(logit), maxima_.data(), places_.data());
}

// The candidate with which the goal is reached, likelier ones first, equal ones by rising place; the last if it never is. None: all of
// the row is needed.
Cut RowCutter::edge(double goal) {
  if (candidates_.empty()) return kNothing;
  refine(goal);
  Candidate last = candidates_.back();
  for (const Candidate& candidate : candidates_) {
    goal -= candidate.weight;
    if (goal > 0) continue;
    last = candidate;
    break;
  }
  return {static_cast<double>(last.logit), last.place};
}

// Leaves the candidates among which the goal is reached, and of it what is left for them: few, or equal ones. In order.
void RowCutter::refine(double& goal) {
  constexpr size_t kFew = 32;
  constexpr int kBins = 256;
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.place < b.place;
  };
  for (;;) {
    const auto [low, high] = std::minmax_element(
        candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; });
    if (low->logit == high->logit) return;
    if (candidates_.size() <= kFew) return std::sort(candidates_.begin(), candidates_.end(), likelier);
    const auto top = static_cast<double>(high->logit);
    const double per_logit = kBins / (top - static_cast<double>(low->logit));
    const auto bin_of = [&](const Candidate& candidate) {
      return std::min(kBins - 1, static_cast<int>((top - static_cast<double>(candidate.logit)) * per_logit));
    };
    double bins[kBins] = {};
    for (const Candidate& candidate : candidates_) bins[bin_of(candidate)] += candidate.weight;
    int bin = 0;
    for (; bin < kBins - 1 && bins[bin] < goal; ++bin) goal -= bins[bin];  // the last holds the least
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                     [&](const Candidate& candidate) { return bin_of(candidate) != bin; }),
                      candidates_.end());
  }
}

// Whether an element above -inf is cut away. Mostly one of the first is.
bool RowCutter::drops(const Cut& cut) const {
  for (int64_t i = 0; i < row_.count; ++i) {
    const float x = element_of(row_, i);
    if (x > -INFINITY && !keeps(cut, static_cast<double>(x), i)) return true;
  }
  return false;
}

}  // namespace rlvr::cpu
