// Where the filters of sample-tokens cut a row.
#pragma once

#include <vector>

#include "cpu/sample_tokens_simd.h"

namespace rlvr::cpu {

// The version for this process.
const SampleTokensRows& sample_tokens_rows();

// An element, widened.
float element_of(const SampledRow& row, int64_t place);

// Cuts one row after another, in memory that is kept.
class RowCutter {
 public:
  // Looks at a row. False if it is not finite.
  bool look(const SampledRow& row, double inverse_temperature);
  // What the filters keep of it; all there is if they drop nothing.
  Cut cut(const SampleTokens& op);
  // Finds what a cut keeps; returns how many elements.
  int64_t keep(const Cut& cut);
  const int32_t* places() const { return places_.data(); }  // of what was found, ascending

 private:
  // An element that may be the last that is kept.
  struct Candidate {
    float logit;
    int32_t place;
    double weight;
  };

  Cut top_k(int64_t k);
  Cut top_p(double share, const Cut& of);
  Cut edge(double goal);
  bool drops(const Cut& cut) const;
  void add_candidates(int64_t count, bool masses);
  double nearest_bin(double goal, bool masses);
  void make_room();
  int64_t places_from(double logit);
  void refine(double& goal);

  SampledRow row_{};
  SampledScale scale_{};
  std::vector<float> maxima_;
  std::vector<int32_t> places_;
  std::vector<double> bins_;
  std::vector<Candidate> candidates_;
};

}  // namespace rlvr::cpu
