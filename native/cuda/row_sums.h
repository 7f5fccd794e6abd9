// The forward pass over a row: the sums of its exponentials in one read. Spec section 2.
//
// A row is a block's. Each thread takes a chunk (elements.h) at a time, the next one's loads under way, and adds it
// with one multiply-add, one ex2 and one addition per element: in float32 within a chunk, compensated from chunk to
// chunk.
//
// Exponents are taken against a reference that the lanes of a warp share. It need not be the maximum: it is moved only
// when a chunk has an element about 2^kSlack times as likely, which is rare after the first chunk. It is a whole number
// in base 2, so moving the sums is exact. The sums depend on nothing but the row and how it is aligned.
//
// A thread keeps the sum of the chunk with its largest element apart from the others', see partial_sums.h.
#pragma once

#include "cuda/base2_exp.h"
#include "cuda/elements.h"
#include "cuda/partial_sums.h"
#include "cuda/reduce.h"

namespace rlvr::cuda {
namespace {

constexpr float kSlack = 8;

// A float32 sum and what was lost in it by rounding.
struct CompensatedSum {
  float sum = 0;
  float lost = 0;

  __device__ __forceinline__ void add(float x) {
    const float y = x - lost;
    const float next = sum + y;
    lost = (next - sum) - y;
    sum = next;
  }
  __device__ void scale(float power) {
    sum *= power;
    lost *= power;
  }
  __device__ double value() const { return static_cast<double>(sum) - static_cast<double>(lost); }
};

// Who has the largest element.
struct Owner {
  int thread;
  int position;  // of the chunk
};

// What a warp has of a row: the same in all lanes.
struct WarpSums {
  PartialSums sums;
  Owner owner;
};

template <class E, bool kEntropy>
class ThreadSums {
 public:
  static constexpr int kVectors = 4;
  using RowChunk = Chunk<E, kVectors>;

  __device__ explicit ThreadSums(const Base2& scale) : scale_(scale), base_(scale) {}

  __device__ void add_row(const typename E::Element* row, const RowSplit<E>& split) {
    const auto* vectors = reinterpret_cast<const uint4*>(row + split.head) + threadIdx.x;
    const int pairs = split.vectors / (2 * RowChunk::kStride);
    RowChunk first{};  // not to be taken for values that outlive the row, which would cost registers
    RowChunk second;
    if (pairs > 0) first.load(vectors);
    add_edges(row, split, 2 * pairs);
    for (int position = 0; position < 2 * pairs; position += 2) {
      second.load(vectors + RowChunk::kStride);
      add(first, position);
      vectors += 2 * RowChunk::kStride;
      if (position + 2 < 2 * pairs) first.load(vectors);
      add(second, position + 1);
    }
  }

  __device__ WarpSums warp_sums() const {
    const float max = warp_reduce(best_, max_keeping_nan);
    const unsigned owners = __ballot_sync(kAllLanes, best_ == max);
    const int lane = owners == 0 ? 0 : __ffs(static_cast<int>(owners)) - 1;
    const bool owner = lane == lane_index();
    Sums others{outside_.value(), weighted_outside_.value()};
    const Sums chunk{static_cast<double>(inside_), static_cast<double>(weighted_inside_)};
    if (!owner) others = others + chunk;
    const double rise = -above<E::kExactScale>(base_, max);
    return {
        {max, moved({__shfl_sync(kAllLanes, chunk.total, lane), __shfl_sync(kAllLanes, chunk.weighted, lane)}, rise),
         moved(warp_sum(others), rise)},
        {warp_index() * kWarp + lane, __shfl_sync(kAllLanes, position_, lane)}};
  }

  // The sums of the chunk with the maximum, but without it. The lanes take an element each.
  __device__ Sums without_largest(const typename E::Element* row, const RowSplit<E>& split, const Owner& owner,
                                  float max) const {
    static_assert(RowChunk::kElements <= kWarp);
    const int lane = lane_index();
    const int vector = owner.thread + kRowThreads * (owner.position * kVectors + lane / kPerVector<E>);
    float x = kNegativeInfinity;
    if (owner.position != kSingles && lane < RowChunk::kElements && vector < split.vectors)
      x = E::widen(row[split.head + int64_t{vector} * kPerVector<E> + lane % kPerVector<E>]);
    const unsigned largest = __ballot_sync(kAllLanes, x == max);
    if (lane == __ffs(static_cast<int>(largest)) - 1) x = kNegativeInfinity;
    const float t = fmaxf(exponent<E::kExactScale>(base_, x), kExponentFloor);
    const float e = exp2_approx(t);
    const Sums sums{static_cast<double>(e), static_cast<double>(e) * static_cast<double>(t)};
    return moved(warp_sum(sums), -above<E::kExactScale>(base_, max));
  }

 private:
  static constexpr int kSingles = -1;  // the position of a thread's element outside the vectors

  // All that the loop in add_row() leaves: the vectors from chunk `begin` on, and before them the single elements.
  __device__ __forceinline__ void add_edges(const typename E::Element* row, const RowSplit<E>& split, int begin) {
    const auto* vectors = reinterpret_cast<const uint4*>(row + split.head);
    for (int position = split.singles() > 0 ? begin - 1 : begin;; ++position) {
      const int first = position * RowChunk::kStride + static_cast<int>(threadIdx.x);
      RowChunk chunk;
      if (position < begin) {
        chunk.load_within(vectors, 0);
        if (threadIdx.x < split.singles()) chunk.word(0) = E::word_of(row[split.single(threadIdx.x)]);
        add(chunk, kSingles);
        continue;
      }
      if (position * RowChunk::kStride >= split.vectors) break;
      chunk.load_within(vectors + first, split.vectors - first);
      add(chunk, position);
    }
  }

  __device__ __forceinline__ void add(const RowChunk& chunk, int position) {
    const float top = chunk.largest();
    if (__any_sync(kAllLanes, top > limit_)) raise_reference(top);
    float total[4];
    float weighted[4];
#pragma unroll
    for (int i = 0; i < RowChunk::kWords; ++i) {
      float x[E::kPerWord];
      E::unpack(chunk.word(i), x);
#pragma unroll
      for (int k = 0; k < E::kPerWord; ++k) {
        const int n = i * E::kPerWord + k;
        float t = exponent<E::kExactScale>(base_, x[k]);
        if (kEntropy) t = max_keeping_nan(t, kExponentFloor);
        const float e = exp2_approx(t);
        total[n % 4] = n < 4 ? e : total[n % 4] + e;
        if (kEntropy) weighted[n % 4] = n < 4 ? e * t : fmaf(e, t, weighted[n % 4]);
      }
    }
    const bool better = top > best_;
    best_ = max_keeping_nan(best_, top);
    position_ = better ? position : position_;
    swap_in(better, (total[0] + total[1]) + (total[2] + total[3]), inside_, outside_);
    if (kEntropy)
      swap_in(better, (weighted[0] + weighted[1]) + (weighted[2] + weighted[3]), weighted_inside_, weighted_outside_);
  }

  __device__ __forceinline__ static void swap_in(bool better, float sum, float& inside, CompensatedSum& outside) {
    outside.add(better ? inside : sum);
    inside = better ? sum : inside;
  }

  // For all lanes of a warp: moves the reference to the largest `top`.
  __device__ __forceinline__ void raise_reference(float top) {
    const float highest = warp_reduce(top, [](float a, float b) { return fmaxf(a, b); });
    const Base2 next = with_reference(scale_, highest);
    const float distance = next.shift - base_.shift;
    const bool near = next.high == base_.high && distance >= 0.0f && distance < 126.0f;
    const float factor = near ? power_of_2(-distance) : 0.0f;  // 0: nothing of the old sums is left
    if (kEntropy) move_weights(near ? distance : 0.0f, factor);
    outside_.scale(factor);
    inside_ *= factor;
    base_ = next;
    limit_ = fmaf(kSlack, 1.0f / scale_.high, highest);
  }

  __device__ __forceinline__ void move_weights(float distance, float factor) {
    weighted_outside_.add(-distance * outside_.sum);
    weighted_outside_.scale(factor);
    weighted_inside_ = (weighted_inside_ - distance * inside_) * factor;
  }

  Base2 scale_;
  Base2 base_;
  float limit_ = kNegativeInfinity;  // above it, the reference must be moved; nothing is above it when there is none
  float best_ = kNegativeInfinity;   // the largest element
  int position_ = 0;                 // the chunk that holds it
  float inside_ = 0;                 // that chunk's sum
  float weighted_inside_ = 0;
  CompensatedSum outside_;  // the others'
  CompensatedSum weighted_outside_;
};

}  // namespace
}  // namespace rlvr::cuda
