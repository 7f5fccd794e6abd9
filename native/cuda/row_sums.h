// The forward pass over a row: the sums of its exponentials in one read. Spec section 2.
//
// A row is cut into pieces of kPieceVectors vectors, counted off from its end, as many as its length asks for; the
// first has what is left, and the edges. Each thread of a block takes a chunk (elements.h) of a piece at a time, the
// next one's loads under way, and adds it with one multiply-add, one ex2 and one addition per element: in float32
// within a chunk, compensated from chunk to chunk.
//
// Exponents are taken against a reference that the lanes of a warp share. It need not be the maximum: it is moved only
// when a chunk has an element about 2^kSlack times as likely, which is rare after a piece's first chunk. It is a whole
// number in base 2, so moving the sums is exact.
//
// Every piece begins anew, and a thread adds its sums of the pieces one after the other, from the first to the last,
// whether its block reads all of a row or several blocks read a piece each. So the sums depend on nothing but the row
// and how it is aligned: not on the grid, nor on the rows beside it. By instruction counts (sm_90, 16 bits) a piece's
// end and new beginning cost about 140 of the 900 that a warp issues for it, all in float32; a block-wide reduction
// there would cost more, and float64, of which sm_86 to sm_120 have little.
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
constexpr int kPieceVectors = 4096;  // 64 KiB

// Of a row, for the sums.
template <class E>
constexpr int pieces_of(int64_t vocab) {
  const int64_t pieces = (vocab / kPerVector<E> + kPieceVectors - 1) / kPieceVectors;
  return pieces > 1 ? static_cast<int>(pieces) : 1;
}

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
  __device__ __forceinline__ void add(const CompensatedSum& other) {
    add(other.sum);
    add(-other.lost);
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

// A thread's sums over chunks of a row.
template <bool kEntropy>
struct ThreadSums {
  static constexpr int kWords = kEntropy ? 11 : 8;

  Base2 base{};                    // with the reference, whose shift is -inf where no element is above -inf
  float best = kNegativeInfinity;  // the largest element
  int position = 0;                // the chunk that holds it
  float inside = 0;                // that chunk's sum
  float weighted_inside = 0;
  CompensatedSum outside;  // the others'
  CompensatedSum weighted_outside;

  // A chunk, or the chunk apart of some that are next.
  __device__ __forceinline__ void add_chunk(float top, int at, float total, float weighted) {
    const bool better = top > best;
    best = max_keeping_nan(best, top);
    position = better ? at : position;
    swap_in(better, total, inside, outside);
    if (kEntropy) swap_in(better, weighted, weighted_inside, weighted_outside);
  }

  // The chunks that are next.
  __device__ void add(ThreadSums next) {
    const bool higher = next.base.high == base.high ? next.base.shift > base.shift
                                                    : next.base.shift / next.base.high > base.shift / base.high;
    if (higher)
      refer_to(next.base);
    else
      next.refer_to(base);
    add_chunk(next.best, next.position, next.inside, next.weighted_inside);
    outside.add(next.outside);
    if (kEntropy) weighted_outside.add(next.weighted_outside);
  }

  // To a reference that is not lower.
  __device__ __forceinline__ void refer_to(const Base2& next) {
    const float distance = next.shift - base.shift;
    const bool near = next.high == base.high && distance >= 0.0f && distance < 126.0f;
    const float factor = near ? power_of_2(-distance) : 0.0f;  // 0: nothing of the old sums is left
    if (kEntropy) move_weights(near ? distance : 0.0f, factor);
    outside.scale(factor);
    inside *= factor;
    base = next;
  }

  // Calls visit(member, word) for each member and its place among `words`, which has room for those of a block.
  template <class Words, class Visit>
  __device__ __forceinline__ void each(Words* words, Visit visit) {
    Words* word = words + threadIdx.x;
    const auto next = [&](auto& member) {
      visit(member, *word);
      word += kRowThreads;
    };
    next(base.high);
    next(base.low);
    next(base.shift);
    next(best);
    next(position);
    next(inside);
    next(outside.sum);
    next(outside.lost);
    if constexpr (kEntropy) {
      next(weighted_inside);
      next(weighted_outside.sum);
      next(weighted_outside.lost);
    }
  }
  __device__ __forceinline__ void store(uint32_t* words) {
    each(words, [](auto& member, uint32_t& word) { memcpy(&word, &member, sizeof word); });
  }
  __device__ __forceinline__ void load(const uint32_t* words) {
    each(words, [](auto& member, const uint32_t& word) { memcpy(&member, &word, sizeof word); });
  }
  // As load(), where another block may have stored them.
  __device__ __forceinline__ void load_shared(const uint32_t* words) {
    each(words, [](auto& member, const uint32_t& word) {
      const uint32_t now = __ldcg(&word);
      memcpy(&member, &now, sizeof now);
    });
  }

 private:
  __device__ __forceinline__ static void swap_in(bool better, float sum, float& inside, CompensatedSum& outside) {
    outside.add(better ? inside : sum);
    inside = better ? sum : inside;
  }

  __device__ __forceinline__ void move_weights(float distance, float factor) {
    weighted_outside.add(-distance * outside.sum);
    weighted_outside.scale(factor);
    weighted_inside = (weighted_inside - distance * inside) * factor;
  }
};

// Of a row's `count` pieces, number `first`: alone, or with all that follow.
struct Pieces {
  int first;
  bool alone;
  int count;
};

template <class E, bool kEntropy, Reads kReads = Reads::kOnce>
class RowSums {
 public:
  static constexpr int kVectors = 4;
  static constexpr int kWords = ThreadSums<kEntropy>::kWords * kRowThreads;  // of a block
  using RowChunk = Chunk<E, kVectors>;

  __device__ explicit RowSums(const Base2& scale) : scale_(scale) {}

  // The sums of some pieces. `words` are the block's, in shared memory, for sums that wait.
  __device__ void add_pieces(const typename E::Element* row, const RowSplit<E>& split, const Pieces& pieces,
                             uint32_t* words) {
    const int chunks = whole_chunks(split);
    const int first_stop = (pieces.count - 1) * kPieceChunks;
    int stop = first_stop - pieces.first * kPieceChunks;  // what is left of the row after this piece, in chunks
    int left = pieces.first == 0 ? chunks : min(chunks, stop + kPieceChunks);
    const auto* vectors =
        reinterpret_cast<const uint4*>(row + split.head) + int64_t{chunks - left} * RowChunk::kStride + threadIdx.x;
    RowChunk first{};  // not to be taken for values that outlive the row, which would cost registers
    RowChunk second;
    if (left > (pieces.alone ? stop : 0)) first.template load<kReads>(vectors);
    for (;; stop -= kPieceChunks) {
      begin_piece();
      if (stop == first_stop) add_edges(row, split);
#pragma unroll 1
      for (; left > stop; left -= 2) {
        second.template load<kReads>(vectors + RowChunk::kStride);
        add(first, left);
        vectors += 2 * RowChunk::kStride;
        if (left - 2 > (pieces.alone ? stop : 0)) first.template load<kReads>(vectors);
        add(second, left - 1);
      }
      end_piece();
      if (pieces.alone) return;
      if (stop < first_stop) add_to(words);
      if (stop == 0) return;
      sums_.store(words);
    }
  }

  // Leaves the sums to another block, or takes those of a row's pieces, kWords words each, from other blocks.
  __device__ void store(uint32_t* words) { sums_.store(words); }
  __device__ void load_pieces(const uint32_t* words, int count) {
    sums_.load_shared(words);
    for (int piece = 1; piece < count; ++piece) {
      ThreadSums<kEntropy> next;
      next.load_shared(words + int64_t{piece} * kWords);
      sums_.add(next);
    }
  }

  __device__ WarpSums warp_sums() const {
    const float max = warp_reduce(sums_.best, max_keeping_nan);
    const unsigned owners = __ballot_sync(kAllLanes, sums_.best == max);
    const int lane = owners == 0 ? 0 : __ffs(static_cast<int>(owners)) - 1;
    const bool owner = lane == lane_index();
    Sums others{sums_.outside.value(), sums_.weighted_outside.value()};
    const Sums chunk{static_cast<double>(sums_.inside), static_cast<double>(sums_.weighted_inside)};
    if (!owner) others = others + chunk;
    const Sums of_owner{__shfl_sync(kAllLanes, chunk.total, lane),
                        kEntropy ? __shfl_sync(kAllLanes, chunk.weighted, lane) : 0};
    const double rise = -above<E::kExactScale>(sums_.base, max);
    const PartialSums sums{max, moved(of_owner, rise), moved(warp_sum<kEntropy>(others), rise)};
    return {sums, {warp_index() * kWarp + lane, __shfl_sync(kAllLanes, sums_.position, lane)}};
  }

  // The sums of the chunk with the maximum, but without it. The lanes take an element each.
  __device__ Sums without_largest(const typename E::Element* row, const RowSplit<E>& split, const Owner& owner,
                                  float max) const {
    static_assert(RowChunk::kElements <= kWarp);
    const int lane = lane_index();
    const int chunk = whole_chunks(split) - owner.position;
    const int vector = owner.thread + kRowThreads * (chunk * kVectors + lane / kPerVector<E>);
    float x = kNegativeInfinity;
    if (owner.position != kSingles && lane < RowChunk::kElements && vector < split.vectors)
      x = E::widen(row[split.head + int64_t{vector} * kPerVector<E> + lane % kPerVector<E>]);
    const unsigned largest = __ballot_sync(kAllLanes, x == max);
    if (lane == __ffs(static_cast<int>(largest)) - 1) x = kNegativeInfinity;
    const float t = fmaxf(exponent<E::kExactScale>(sums_.base, x), kExponentFloor);
    const float e = exp2_approx(t);
    const Sums sums{static_cast<double>(e), static_cast<double>(e) * static_cast<double>(t)};
    return moved(warp_sum<kEntropy>(sums), -above<E::kExactScale>(sums_.base, max));
  }

 private:
  static constexpr int kSingles = 1 << 30;  // the position of a thread's element outside the vectors
  static constexpr int kPieceChunks = kPieceVectors / RowChunk::kStride;
  static_assert(kPieceVectors % (2 * RowChunk::kStride) == 0);

  // Those that add_pieces() loads in pairs. A chunk's position is how many of these there are from it on.
  __device__ static int whole_chunks(const RowSplit<E>& split) {
    return split.vectors / (2 * RowChunk::kStride) * 2;
  }

  __device__ __forceinline__ void begin_piece() {
    sums_ = ThreadSums<kEntropy>();
    sums_.base = scale_;
    limit_ = kNegativeInfinity;
  }

  // Adds the sums to earlier ones.
  __device__ __forceinline__ void add_to(const uint32_t* words) {
    ThreadSums<kEntropy> all;
    all.load(words);
    all.add(sums_);
    sums_ = all;
  }

  __device__ __forceinline__ void end_piece() {
    if (limit_ == kNegativeInfinity) sums_.base.shift = kNegativeInfinity;
  }

  // The vectors after the last whole pair of chunks, and before them the single elements.
  __device__ __forceinline__ void add_edges(const typename E::Element* row, const RowSplit<E>& split) {
    const int begin = whole_chunks(split);
    const auto* vectors = reinterpret_cast<const uint4*>(row + split.head);
    for (int chunk_number = split.singles() > 0 ? begin - 1 : begin;; ++chunk_number) {
      const int first = chunk_number * RowChunk::kStride + static_cast<int>(threadIdx.x);
      RowChunk chunk;
      if (chunk_number < begin) {
        chunk.template load_within<kReads>(vectors, 0);
        if (threadIdx.x < split.singles()) chunk.word(0) = E::word_of(row[split.single(threadIdx.x)]);
        add(chunk, kSingles);
        continue;
      }
      if (chunk_number * RowChunk::kStride >= split.vectors) break;
      chunk.template load_within<kReads>(vectors + first, split.vectors - first);
      add(chunk, begin - chunk_number);
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
        float t = exponent<E::kExactScale>(sums_.base, x[k]);
        if (kEntropy) t = max_keeping_nan(t, kExponentFloor);
        const float e = exp2_approx(t);
        total[n % 4] = n < 4 ? e : total[n % 4] + e;
        if (kEntropy) weighted[n % 4] = n < 4 ? e * t : fmaf(e, t, weighted[n % 4]);
      }
    }
    sums_.add_chunk(top, position, (total[0] + total[1]) + (total[2] + total[3]),
                    kEntropy ? (weighted[0] + weighted[1]) + (weighted[2] + weighted[3]) : 0.0f);
  }

  // For all lanes of a warp: moves the reference to the largest `top`.
  __device__ __forceinline__ void raise_reference(float top) {
    const float highest = warp_reduce(top, [](float a, float b) { return fmaxf(a, b); });
    sums_.refer_to(with_reference(scale_, highest));
    limit_ = fmaf(kSlack, 1.0f / scale_.high, highest);
  }

  Base2 scale_;
  float limit_ = kNegativeInfinity;  // above it, the reference must be moved; nothing is above it when there is none
  ThreadSums<kEntropy> sums_{};
};

}  // namespace
}  // namespace rlvr::cuda
