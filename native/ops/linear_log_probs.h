// linear-log-probs: hidden states and the weight of the last layer (lm_head) -> log-prob of the sampled token, logsumexp,
// entropy, as token-log-probs has them for
//   logits = hidden . weight^T + bias
// which are never held as a whole; and the gradients back to all three. Spec section 10.
#pragma once

#include "ops/common.h"

namespace rlvr {

// Row r starts at element r * stride.
struct InputMatrix {
  const void* data;
  DType dtype;
  int64_t stride;  // elements, at least a row's width
};

struct GradientMatrix {
  void* data;  // null: not wanted
  DType dtype;
  int64_t stride;
  bool accumulate;  // the gradient is added to what is there
};

// What both directions read.
struct LinearLogits {
  InputMatrix hidden;      // [T, d]
  InputMatrix weight;      // [V, d]
  InputMatrix bias;        // [1, V]; data null: none
  int64_t tokens;          // T
  int64_t vocab;           // V
  int64_t width;           // d
  const int32_t* targets;  // [T], 0 <= id < V, or kNoTarget, wherever the mask is not 0
  const uint8_t* mask;     // [T] or null: 0 drops the token, whose hidden state is then not read
  double temperature;      // > 0
  int64_t chunk_bytes;     // of CUDA: of logits that are held at a time, at least a row's
};

// Logits that the forward pass leaves to the backward pass, which then does not compute them again: those of all rows that the
// forward pass does not drop, in as many tiles of columns as fit; all of them are rows * V floats. The backward pass only reads.
// On CUDA all or none: `data` has room for those of every row, `rows` is null, and the backward pass writes over them.
template <class Float, class Index>
struct KeptLogits {
  Float* data;     // null: none
  int64_t length;  // of data
  Index* rows;     // [T] which of those rows row t is; -1: none of them
};

// Rows whose logits are not finite are treated as in TokenLogProbsForward.
struct LinearLogProbsForward {
  LinearLogits logits;
  double* log_probs;    // [T] out, natural log
  double* log_sum_exp;  // [T] out, of the scaled logits
  double* entropy;      // [T] out, nats; null: not computed
  uint8_t* kept;        // [T] out: 1, or 0 for masked and non-finite rows
  int32_t* non_finite;  // [1] in: 0; out: number of non-finite rows; -1: there was no memory to work in
  KeptLogits<float, int32_t> kept_logits;  // out
  CancelFlag cancel;
};

// With D = dL/dlogits as of TokenLogProbsBackward: grad_hidden = D . weight, grad_weight = D^T . hidden, grad_bias = the sum
// of D's rows.
struct LinearLogProbsBackward {
  LinearLogits logits;
  const double* log_sum_exp;     // [T] from the forward pass
  const double* grad_log_probs;  // [T] g; rows with g == 0 and h == 0 take no part
  const double* entropy;         // [T] from the forward pass; null when grad_entropy is null
  const double* grad_entropy;    // [T] h; null: no entropy term
  KeptLogits<const float, const int32_t> kept_logits;  // from the forward pass
  GradientMatrix grad_hidden;    // [T, d]
  GradientMatrix grad_weight;    // [V, d]
  GradientMatrix grad_bias;      // [1, V]
  // [4] in: -1; out, -1 for none: the first row with an upstream gradient beyond the range of float32 (then nothing is written; -2:
  // there was no memory to work in); the first row of grad_hidden, and of grad_weight, and the first entry of grad_bias, that
  // is not finite, found as it is written.
  int32_t* bad_rows;
  CancelFlag cancel;
};

}  // namespace rlvr
