// The backward pass over a tile of a row: the gradient of its logits given logsumexp and what comes from upstream.
// Spec section 2.
//
// Entries are exp((x - lse * T) / T) * alpha, or, with an entropy gradient, * (alpha + beta * exponent): row constants,
// computed in float64 by every thread. The loop knows nothing of the target, whose entry 1 - p would cancel: its thread
// reads the logit before and writes the entry after. Nor does it test what it writes: it adds 0 times each entry to a
// sum that then tells whether all are finite.
#pragma once

#include "cuda/base2_exp.h"
#include "cuda/elements.h"
#include "ops/token_log_probs.h"

namespace rlvr::cuda {
namespace {

// exp2(exponent of x) * (alpha + beta * exponent).
struct RowGradient {
  bool zero;
  Base2 base;
  float alpha;
  float beta;
  double g;
  double h;
};

__device__ inline float saturate(double x) {
  return static_cast<float>(x > kLargestFloat ? kLargestFloat : x < -kLargestFloat ? -kLargestFloat : x);
}

template <class E>
__device__ RowGradient row_gradient(const TokenRowsBackward& op, int64_t t, const Scale& scale) {
  const bool masked = op.mask != nullptr && op.mask[t] == 0;
  const double g = upstream_of(op, t);
  const double h = masked || op.grad_entropy == nullptr ? 0 : op.grad_entropy[t];
  const int64_t target = op.targets[t];
  if ((g == 0 && h == 0) || target < kNoTarget || target >= op.vocab) return {true, scale.base, 0, 0, 0, 0};
  const double center = op.log_sum_exp[t] * op.temperature;  // the logit with p = 1
  const float reference = saturate(center);
  const Base2 base = with_reference(scale.base, reference);
  // What the exponents lack to log2(p), the same for all of the row.
  const double residual =
      (static_cast<double>(reference) - center) * scale.inverse * kLog2E - above<E::kExactScale>(base, reference);
  const double factor = exp2(residual) * scale.inverse;
  const double all = h == 0 ? g : g + h * (op.entropy[t] + residual * kLn2);
  return {false, base, saturate(-all * factor), saturate(-h * kLn2 * factor), g, h};
}

// The target's own entry, without the cancellation of 1 - p.
__device__ inline float target_gradient(const TokenRowsBackward& op, int64_t t, float x, const RowGradient& row,
                                        double inverse_temperature) {
  const double log_prob = static_cast<double>(x) * inverse_temperature - op.log_sum_exp[t];
  double gradient = -row.g * expm1(log_prob);
  if (row.h != 0 && isfinite(log_prob)) gradient -= row.h * exp(log_prob) * (log_prob + op.entropy[t]);
  const double entry = gradient * inverse_temperature + 0.0;
  return magnitude(entry) <= kLargestFloat ? static_cast<float>(entry) : NAN;
}

template <class E, bool kEntropy>
__device__ __forceinline__ float entry_of(float x, const RowGradient& row) {
  float t = exponent<E::kExactScale>(row.base, x);
  if (!kEntropy) return fmaf(exp2_approx(t), row.alpha, 0.0f);  // + 0: no banned token has -0
  t = max_keeping_nan(t, kExponentFloor);
  return fmaf(exp2_approx(t), fmaf(row.beta, t, row.alpha), 0.0f);
}

// Replaces logits by their gradients. Returns `seen`, or NaN where one of them is not finite.
template <class E, bool kEntropy, int kVectors>
__device__ __forceinline__ uint32_t differentiate(Chunk<E, kVectors>& chunk, const RowGradient& row, uint32_t seen) {
#pragma unroll
  for (int i = 0; i < chunk.kWords; ++i) {
    float x[E::kPerWord];
    E::unpack(chunk.word(i), x);
#pragma unroll
    for (int k = 0; k < E::kPerWord; ++k) x[k] = entry_of<E, kEntropy>(x[k], row);
    chunk.word(i) = E::pack(x);
    seen = E::watch(chunk.word(i), seen);
  }
  return seen;
}

// Part of a row, as its elements in the arrays of logits and of gradients.
template <class E>
struct Tile {
  const typename E::Element* x;
  typename E::Element* out;
  RowSplit<E> split;  // of out, and of x; all single elements where the two are aligned differently

  __device__ Tile(const typename E::Element* x_, typename E::Element* out_, int64_t count)
      : x(x_), out(out_), split(out_, count) {
    if (reinterpret_cast<uintptr_t>(x + split.head) % sizeof(uint4) != 0) split.make_single();
  }

  // Whether this thread writes element v.
  __device__ bool mine(int64_t v) const {
    const int64_t vector = v - split.head;
    if (vector >= 0 && v < split.tail()) return vector / kPerVector<E> % kRowThreads == threadIdx.x;
    return (v < split.head ? v : v - split.tail() + split.head) % kRowThreads == threadIdx.x;
  }
};

template <class E>
__device__ void zero_fill(const Tile<E>& tile) {
  const RowSplit<E> split(tile.out, tile.split.count);
  auto* vectors = reinterpret_cast<uint4*>(tile.out + split.head);
  for (int64_t i = threadIdx.x; i < split.singles(); i += kRowThreads) tile.out[split.single(i)] = 0;
  for (int i = static_cast<int>(threadIdx.x); i < split.vectors; i += kRowThreads)
    store_streaming(vectors + i, {0, 0, 0, 0});
}

// Writes p times what is upstream of it, for all elements. Returns whether all that this thread wrote is finite.
template <class E, bool kEntropy>
__device__ bool write_probabilities(const Tile<E>& tile, const RowGradient& row) {
  using TileChunk = Chunk<E, 4>;
  bool finite = true;
  for (int64_t i = threadIdx.x; i < tile.split.singles(); i += kRowThreads) {
    const int64_t v = tile.split.single(i);
    tile.out[v] = E::narrow(entry_of<E, kEntropy>(E::widen(tile.x[v]), row));
    finite = finite && isfinite(E::widen(tile.out[v]));
  }
  const auto* from = reinterpret_cast<const uint4*>(tile.x + tile.split.head) + threadIdx.x;
  auto* to = reinterpret_cast<uint4*>(tile.out + tile.split.head) + threadIdx.x;
  uint32_t seen = 0;
  TileChunk chunk;
  for (int chunks = tile.split.vectors / TileChunk::kStride; chunks > 0; --chunks) {
    chunk.load(from);
    seen = differentiate<E, kEntropy>(chunk, row, seen);
    chunk.store(to);
    from += TileChunk::kStride;
    to += TileChunk::kStride;
  }
  if (const int rest = tile.split.vectors % TileChunk::kStride; rest > 0) {
    const int left = rest - static_cast<int>(threadIdx.x);
    chunk.load_within(from, left);
    seen = differentiate<E, kEntropy>(chunk, row, seen);
    chunk.store_within(to, left);
  }
  return finite && E::all_finite(seen);
}

// Whether all that this thread wrote is finite, as it is now.
template <class E>
__device__ bool is_finite(const Tile<E>& tile) {
  for (int64_t i = threadIdx.x; i < tile.split.singles(); i += kRowThreads)
    if (!isfinite(E::widen(tile.out[tile.split.single(i)]))) return false;
  for (int i = static_cast<int>(threadIdx.x); i < tile.split.vectors; i += kRowThreads)
    for (int k = 0; k < kPerVector<E>; ++k)
      if (!isfinite(E::widen(tile.out[tile.split.head + int64_t{i} * kPerVector<E> + k]))) return false;
  return true;
}

// `count` elements of row t from number `begin` on. Returns whether what this thread wrote of them is finite.
template <class E, bool kEntropy>
__device__ bool write_gradient(const TokenRowsBackward& op, int64_t t, int64_t begin, int64_t count,
                               const Scale& scale) {
  const auto* x = static_cast<const typename E::Element*>(op.logits) + t * op.row_stride + begin;
  auto* out = static_cast<typename E::Element*>(op.grad_logits) + t * op.grad_row_stride + begin;
  const Tile<E> tile(x, out, count);
  const RowGradient row = row_gradient<E>(op, t, scale);
  if (row.zero) {
    zero_fill(tile);
    return true;
  }
  const int64_t target = op.targets[t] - begin;  // of kNoTarget before all tiles
  const bool has_target = target >= 0 && target < tile.split.count && tile.mine(target);
  const float at_target = has_target ? E::widen(x[target]) : 0.0f;  // read before it is written over
  const bool finite = write_probabilities<E, kEntropy>(tile, row);
  if (!has_target) return finite;
  out[target] = E::narrow(target_gradient(op, t, at_target, row, scale.inverse));
  // What was there before may have been too large where the entry itself is not.
  return finite ? isfinite(E::widen(out[target])) : is_finite(tile);
}

}  // namespace
}  // namespace rlvr::cuda
