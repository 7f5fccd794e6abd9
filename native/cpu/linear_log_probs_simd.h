// The instruction-set versions of what linear-log-probs does with a block of logits; products.cpp picks one.
#pragma once

#include "cpu/token_log_probs_simd.h"
#include "ops/linear_log_probs.h"

namespace rlvr {

// A factor of a product.
struct PanelSource {
  InputMatrix matrix;
  const int32_t* rows;  // row r of the source is this row of the matrix; null: row r
};

// Which part of a source is packed.
struct PanelBlock {
  int64_t begin;  // the first index of the panels
  int64_t count;
  int64_t from;   // the first index of the sum
  int64_t depth;
  int64_t panel_depth;  // of the panels, of which this may be a part
};

// A product's left factor is packed in panels of some of its rows, the right one in panels of some of its columns; within a
// panel, all that belongs to one index of the sum lies together. The last panel is filled up with zeros.
struct PanelPacking {
  int size;
  int overhang;  // floats that are written past the last panel
  void (*along)(const PanelSource& source, const PanelBlock& block, float* out);   // a panel's indices are rows of the source
  void (*across)(const PanelSource& source, const PanelBlock& block, float* out);  // they are columns
};

// What is known of a row of logits when some of its columns have been seen.
struct RowSums {
  float reference;   // the largest of one block of columns, in logits units; -inf: none was finite
  float at_target;   // -inf until it is seen
  bool finite;       // no NaN or +inf so far
  double rest;       // sum exp((x - reference) / T), without the term of the reference itself, which is 1
  double weighted;   // sum exp((x - reference) / T) * (x - reference)
};

struct LinearKernels {
  PanelPacking left;
  PanelPacking right;
  // out[m, n] = left . right, of `depth` products each, summed from the first to the last; add: that is added to `out`.
  void (*multiply)(const float* left, int64_t m, const float* right, int64_t n, int64_t depth, bool add, float* out,
                   int64_t stride);
  // The yardstick of multiply(): `steps` times as many products and sums as multiply_add_lanes, in registers alone.
  double (*multiply_add)(int64_t steps);
  int multiply_add_lanes;

  // Elements [begin, begin + count) of a row of a matrix as float32.
  void (*read)(const InputMatrix& matrix, int64_t row, int64_t begin, int64_t count, float* out);
  // Adds columns [begin, begin + count) of a row.
  void (*add_columns)(const float* x, int64_t begin, int64_t count, int64_t target, double temperature, bool entropy,
                      RowSums& sums);
  // Replaces them by dL/dx.
  void (*gradient)(float* x, int64_t begin, int64_t count, int64_t target, const RowUpstream& upstream);
  // Writes a row of a gradient in its type. Returns whether it is finite.
  bool (*write)(const float* x, int64_t count, const GradientMatrix& out, int64_t row);
};

extern const LinearKernels linear_kernels_portable;
#ifdef RLVR_HAVE_AVX2
extern const LinearKernels linear_kernels_avx2;
extern const LinearKernels linear_kernels_avx512;
#endif
#ifdef RLVR_HAVE_NEON
extern const LinearKernels linear_kernels_neon;
#endif
#ifdef __wasm__
extern const LinearKernels linear_kernels_wasm;
#endif

}  // namespace rlvr
