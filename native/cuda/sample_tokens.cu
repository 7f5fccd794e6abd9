// Tokens drawn at random on the GPU; formulas in ops/sample_tokens.h, spec section 11. A row is a block's (sampled_row.h).
//
// A filter keeps the fewest likeliest elements whose weights reach a goal: k of weight 1, or a share of the mass. The last of them is
// found digit by digit of its ordered bits, with the weights of each digit's values in shared memory; of equal ones, by counting.
#include "cuda/ops.h"
#include "cuda/sampled_row.h"

namespace rlvr::cuda {
namespace {

__device__ Cut nothing() { return {-INFINITY, -1}; }

// Thread 0 finds the digit with whose values the goal is reached, the largest first, and adds it to the prefix.
__device__ void find_digit(RowShared& shared, double goal) {
  int digit = kTiles - 1;
  while (digit > 0 && static_cast<double>(shared.above + shared.bins[digit]) < goal) shared.above += shared.bins[digit--];
  shared.prefix = shared.prefix << 8 | static_cast<unsigned>(digit);
}

// Where the element number `wanted`, from 1 on, of those is for which is(v, x).
template <class E, class Is>
__device__ int place_of(const SampledRow<E>& row, RowShared& shared, unsigned wanted, Is is) {
  row.count(shared, is);
  if (threadIdx.x == 0) {
    int tile = 0;
    for (; tile + 1 < row.tiles() && shared.bins[tile] < wanted; ++tile) wanted -= static_cast<unsigned>(shared.bins[tile]);
    shared.tile = tile;
    shared.above = wanted;
    shared.place = INT_MAX;
  }
  __syncthreads();
  if (warp_index() == 0) {
    auto left = static_cast<int>(shared.above);
    row.for_tile(shared.tile, [&](int v, float x, bool within) {
      const unsigned found = __ballot_sync(kAllLanes, within && is(v, x) ? 1 : 0);
      const int before = __popc(found & ((1u << lane_index()) - 1));
      if ((found >> lane_index() & 1) != 0 && before == left - 1) shared.place = v;
      left -= __popc(found);
      return left <= 0;
    });
  }
  __syncthreads();
  return shared.place;
}

// The element with which weights reach `goal`, of those that `of` keeps; none is cut away if they do not.
template <class E, class Weight>
__device__ Cut edge(const SampledRow<E>& row, RowShared& shared, const Cut& of, double goal, Weight weight) {
  static_assert(kTiles == 256);
  const auto counts = [&](int v, float x) { return x > kNegativeInfinity && keeps(of, static_cast<double>(x), v); };
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    shared.bins[threadIdx.x] = 0;
    if (shift == 24 && threadIdx.x == 0) {
      shared.prefix = 0;
      shared.above = 0;
    }
    __syncthreads();
    const unsigned prefix = shared.prefix;
    row.for_all([&](int v, float x) {
      const unsigned key = ordered(x);
      if (counts(v, x) && (shift == 24 || key >> (shift + 8) == prefix)) atomicAdd(&shared.bins[key >> shift & 255], weight(x));
    });
    __syncthreads();
    if (threadIdx.x == 0) find_digit(shared, goal);
  }
  __syncthreads();
  const float x = unordered(shared.prefix);
  const unsigned long long equal = shared.bins[shared.prefix & 255];
  const auto left = goal - static_cast<double>(shared.above);
  if (static_cast<double>(equal) < left || !(x > kNegativeInfinity)) return nothing();
  const auto each = static_cast<double>(weight(x));
  const double needed = each > 0 ? ceil(left / each) : 1;
  if (needed * each >= static_cast<double>(equal)) return {static_cast<double>(x), INT_MAX};
  return {static_cast<double>(x), place_of(row, shared, needed > 1 ? static_cast<unsigned>(needed) : 1,
                                           [&](int v, float y) { return y == x && counts(v, y); })};
}

// The sum of all weights that `of` keeps.
template <class E, class Weight>
__device__ double weight_of(const SampledRow<E>& row, RowShared& shared, const Cut& of, Weight weight) {
  __syncthreads();
  if (threadIdx.x == 0) shared.above = 0;
  __syncthreads();
  unsigned long long sum = 0;
  row.for_all([&](int v, float x) { sum += keeps(of, static_cast<double>(x), v) ? weight(x) : 0; });
  atomicAdd(&shared.above, sum);
  __syncthreads();
  return static_cast<double>(shared.above);
}

template <class E>
__device__ Cut cut_of(const SampleTokens& op, const SampledRow<E>& row, RowShared& shared, const Mass& mass) {
  const auto one = [](float) { return 1ull; };
  const auto fixed = [&](float x) { return mass.fixed(x); };
  Cut cut = nothing();
  if (op.top_k < op.vocab) cut = edge(row, shared, cut, static_cast<double>(op.top_k), one);
  if (op.top_p < 1) cut = tighter(cut, edge(row, shared, cut, op.top_p * weight_of(row, shared, cut, fixed), fixed));
  if (representable(op.min_distance)) cut = tighter(cut, {static_cast<double>(mass.reference) + op.min_distance, INT_MAX});
  return cut;
}

// The masses of the tiles, of what is kept; how many are kept, are finite, and are as large as the largest.
template <class E>
__device__ void add_masses(const SampledRow<E>& row, RowShared& shared, const Cut& cut, const Mass& mass) {
  __syncthreads();
  if (threadIdx.x < 3) shared.counts[threadIdx.x] = 0;
  __syncthreads();
  double others = 0;
  row.for_tiles([&](int tile) {
    float sum = 0;
    int kept = 0;
    int finite = 0;
    int largest = 0;
    row.for_tile(tile, [&](int v, float x, bool) {
      const bool in = keeps(cut, static_cast<double>(x), v);
      kept += in ? 1 : 0;
      finite += x > kNegativeInfinity ? 1 : 0;
      largest += in && x == mass.reference ? 1 : 0;
      if (in && x != mass.reference) sum += mass.of(x);
      return false;
    });
    const double rest = warp_sum(static_cast<double>(sum));
    const auto add = [](int a, int b) { return a + b; };
    largest = warp_reduce(largest, add);
    kept = warp_reduce(kept, add);
    finite = warp_reduce(finite, add);
    others += rest;
    if (lane_index() != 0) return;
    shared.masses[tile] = rest + largest;
    atomicAdd(&shared.counts[0], kept);
    atomicAdd(&shared.counts[1], finite);
    atomicAdd(&shared.counts[2], largest);
  });
  if (lane_index() == 0) shared.others[warp_index()] = others;
  __syncthreads();
}

// Thread 0 finds the tile up to which there is more than `share` of the mass, or the last with any.
template <class E>
__device__ void find_tile(const SampledRow<E>& row, RowShared& shared, double share) {
  double total = 0;
  for (int tile = 0; tile < row.tiles(); ++tile) total += shared.masses[tile];
  double before = 0;
  double before_last = 0;
  for (int tile = 0; tile < row.tiles() && !(before > share * total); ++tile) {
    if (shared.masses[tile] > 0) {
      shared.tile = tile;
      before_last = before;
    }
    before += shared.masses[tile];
  }
  shared.goal = share * total - before_last;
}

// A warp finds the element of that tile.
template <class E>
__device__ void find_place(const SampledRow<E>& row, RowShared& shared, const Cut& cut, const Mass& mass) {
  double before = 0;
  row.for_tile(shared.tile, [&](int v, float x, bool) {
    const float term = keeps(cut, static_cast<double>(x), v) ? mass.of(x) : 0.0f;
    double sum = term;
    for (int step = 1; step < kWarp; step *= 2) {
      const double other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(step));
      if (lane_index() >= step) sum += other;
    }
    const unsigned passed = __ballot_sync(kAllLanes, term > 0 && before + sum > shared.goal ? 1 : 0);
    const unsigned some = __ballot_sync(kAllLanes, term > 0 ? 1 : 0);
    const int lane = passed != 0 ? __ffs(static_cast<int>(passed)) - 1 : 31 - __clz(static_cast<int>(some));
    if (lane == lane_index()) shared.place = v;
    before += __shfl_sync(kAllLanes, sum, kWarp - 1);
    return passed != 0;
  });
}

// Thread 0 writes the results of row t, of which `id` was drawn; -1: the row is not finite.
__device__ void write_row(const SampleTokens& op, int64_t t, int id, double log_prob, const Cut& cut, int kept) {
  op.ids[t] = id;
  op.log_probs[t] = log_prob;
  if (op.cut_logits == nullptr) return;
  op.cut_logits[t] = cut.logit;
  op.cut_ids[t] = cut.id;
  op.kept_counts[t] = kept;
}

template <class E>
__device__ void sample_row(const SampleTokens& op, int64_t t, RowShared& shared) {
  const SampledRow<E> row(op.logits, t * op.row_stride, op.vocab);
  const float largest = row.largest(shared);
  if (!isfinite(largest)) {
    if (threadIdx.x == 0) write_row(op, t, -1, 0, nothing(), 0);
    return;
  }
  const double inverse = 1 / op.temperature;
  const Mass mass(largest, inverse);
  const Cut cut = has_filters(op) ? cut_of(op, row, shared, mass) : nothing();
  add_masses(row, shared, cut, mass);
  if (threadIdx.x == 0) find_tile(row, shared, uniform(op.seed, op.offset + static_cast<uint64_t>(t)));
  __syncthreads();
  if (warp_index() == 0) find_place(row, shared, cut, mass);
  __syncthreads();
  if (threadIdx.x != 0) return;
  double rest = shared.counts[2] - 1;
  for (const double others : shared.others) rest += others;
  const double distance = static_cast<double>(row.at(shared.place)) - static_cast<double>(largest);
  const bool dropped = shared.counts[0] < shared.counts[1];
  write_row(op, t, shared.place, distance * inverse - log1p(rest), cut, dropped ? shared.counts[0] : 0);
}

template <class E>
__global__ __launch_bounds__(kRowThreads) void sample_kernel(SampleTokens op) {
  __shared__ RowShared shared;
  for (int64_t t = blockIdx.x; t < op.tokens; t += gridDim.x) sample_row<E>(op, t, shared);
}

template <class E>
__global__ __launch_bounds__(kRowThreads) void sample_kept_kernel(SampleTokensKept op) {
  __shared__ RowShared shared;
  for (int64_t t = blockIdx.x; t < op.tokens; t += gridDim.x) {
    const int64_t begin = op.cu_kept[t];
    const int64_t end = op.cu_kept[t + 1];
    if (begin == end) continue;
    const SampledRow<E> row(op.logits, t * op.row_stride, op.vocab);
    const Cut cut{op.cut_logits[t], op.cut_ids[t]};
    row.count(shared, [&](int v, float x) { return keeps(cut, static_cast<double>(x), v); });
    row.for_tiles([&](int tile) {
      int64_t next = begin;
      for (int before = 0; before < tile; ++before) next += static_cast<int64_t>(shared.bins[before]);
      row.for_tile(tile, [&](int v, float x, bool within) {
        const unsigned kept = __ballot_sync(kAllLanes, within && keeps(cut, static_cast<double>(x), v) ? 1 : 0);
        const int64_t place = next + __popc(kept & ((1u << lane_index()) - 1));
        if ((kept >> lane_index() & 1) != 0 && place < end) op.kept_ids[place] = v;  // there may be more if they changed under us
        next += __popc(kept);
        return false;
      });
    });
  }
}

template <class Op>
cudaError_t launch_rows(void (*kernel)(Op), const Op& op, PhaseQueue& queue) {
  if (op.tokens == 0 || op.vocab == 0) return cudaSuccess;
  if (const cudaError_t error = queue.flush(); error != cudaSuccess) return error;
  return launch_resident(kernel, op.tokens, kRowThreads, queue.stream(), op);
}

}  // namespace

cudaError_t sample_tokens(const SampleTokens& op, PhaseQueue& queue) {
  switch (op.dtype) {
    case DType::kF32:
      return launch_rows(sample_kernel<F32>, op, queue);
    case DType::kBF16:
      return launch_rows(sample_kernel<Bf16>, op, queue);
    case DType::kF16:
      return launch_rows(sample_kernel<F16>, op, queue);
  }
  return cudaErrorInvalidValue;
}

cudaError_t sample_tokens_kept(const SampleTokensKept& op, PhaseQueue& queue) {
  switch (op.dtype) {
    case DType::kF32:
      return launch_rows(sample_kept_kernel<F32>, op, queue);
    case DType::kBF16:
      return launch_rows(sample_kept_kernel<Bf16>, op, queue);
    case DType::kF16:
      return launch_rows(sample_kept_kernel<F16>, op, queue);
  }
  return cudaErrorInvalidValue;
}

}  // namespace rlvr::cuda
