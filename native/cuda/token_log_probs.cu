// token-log-probs on the GPU; formulas in ops/token_log_probs.h, spec section 2.
//
// Forward: one row per block, blocks persistent over rows, the row read once in 16-byte vectors, kInFlight of them
// outstanding per thread. A thread takes the maximum of a chunk first and rescales its sums once per chunk, not per
// element. Masked rows are not touched. Offsets are 64-bit.
// Backward: tiles of a row, elementwise given logsumexp and the upstream gradient; reads and writes each element once,
// in place or not; rows without gradient are zero-filled without being read.
// A one-pass variant (row kept on chip over a cluster, forward and gradient in 1R + 1W) belongs beside these two, and
// would be chosen in token_log_probs_backward below.
#include "cuda/elements.h"
#include "cuda/ops.h"
#include "cuda/partial_sums.h"

namespace rlvr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;                 // 16-byte loads per thread and chunk
constexpr int64_t kTile = int64_t{1} << 13;  // elements of a row per backward block
constexpr int64_t kBlocks = 132 * 8;         // persistent blocks: eight for each multiprocessor of the largest chips
constexpr double kLog2E = 1.4426950408889634074;

// The factor 1 / temperature in base 2, split in two so that its rounding does not grow with |x|.
struct Scale {
  float high;
  float low;
};

__device__ Scale base2_scale(double inverse_temperature) {
  const double exact = inverse_temperature * kLog2E;
  const auto high = static_cast<float>(exact);
  return {high, static_cast<float>(exact - static_cast<double>(high))};
}

// exp(u / temperature) for u <= about 0. The low part would make infinity NaN.
__device__ __forceinline__ float exp_scaled(float u, const Scale& scale) {
  const float product = u * scale.high;
  const float error = fmaf(u, scale.high, -product) + u * scale.low;
  const float power = exp2_approx(product);
  return product > -150.0f ? fmaf(power, error * 0.69314718f, power) : product <= -150.0f ? 0.0f : product;
}

// Adds a chunk of values to a thread's sums.
template <int kCount, bool kEntropy>
__device__ __forceinline__ void add_chunk(const float (&x)[kCount], PartialSums& sums, const Scale& scale,
                                          double inverse_temperature) {
  float chunk_max = x[0];
  bool nan = x[0] != x[0];
  for (int i = 1; i < kCount; ++i) {
    chunk_max = fmaxf(chunk_max, x[i]);
    nan = nan || x[i] != x[i];
  }
  if (nan) sums.rest = static_cast<double>(NAN);
  if (!(chunk_max > kNegativeInfinity)) return;  // nothing but -inf: p = 0
  int skipped = -1;                              // the element that became the maximum
  if (chunk_max > sums.max) {
    sums = rebase(sums, chunk_max, inverse_temperature);
    for (int i = kCount - 1; i >= 0; --i) skipped = x[i] == chunk_max ? i : skipped;
  }
  float total = 0;
  float weighted = 0;
  for (int i = 0; i < kCount; ++i) {
    const float u = x[i] - sums.max;
    const float e = i == skipped ? 0.0f : exp_scaled(u, scale);
    total += e;
    if (kEntropy) weighted += e > 0.0f ? e * u : 0.0f;
  }
  sums.rest += static_cast<double>(total);
  if (kEntropy) sums.weighted += static_cast<double>(weighted);
}

// The sums over the elements of a row that are this thread's.
template <class E, bool kEntropy>
__device__ PartialSums thread_sums(const typename E::Element* row, int64_t count, const Scale& scale,
                                   double inverse_temperature) {
  PartialSums sums = no_sums();
  const RowSplit split = split_row<E>(row, count);
  const auto add_one = [&](int64_t v) {
    const float x[1] = {E::widen(row[v])};
    add_chunk<1, kEntropy>(x, sums, scale, inverse_temperature);
  };
  for (int64_t v = threadIdx.x; v < split.head; v += kThreads) add_one(v);
  for (int64_t v = split.tail + threadIdx.x; v < count; v += kThreads) add_one(v);

  const auto* vectors = reinterpret_cast<const uint4*>(row + split.head);
  for (int64_t base = threadIdx.x; base < split.vectors; base += int64_t{kThreads} * kInFlight) {
    float x[kInFlight * E::kPerVector];
    uint4 loaded[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int64_t index = base + int64_t{k} * kThreads;
      if (index < split.vectors) loaded[k] = load_streaming(vectors + index);
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const bool inside = base + int64_t{k} * kThreads < split.vectors;
#pragma unroll
      for (int i = 0; i < E::kPerVector; ++i)
        x[k * E::kPerVector + i] = inside ? E::lane(loaded[k], i) : kNegativeInfinity;
    }
    add_chunk<kInFlight * E::kPerVector, kEntropy>(x, sums, scale, inverse_temperature);
  }
  return sums;
}

// Thread 0 writes row t's results from its sums.
__device__ void finish_row(const TokenLogProbsForward& op, int64_t t, float at_target, const PartialSums& sums,
                           double inverse_temperature) {
  const double log_rest = log1p(sums.rest);
  const double log_prob =
      (static_cast<double>(at_target) - static_cast<double>(sums.max)) * inverse_temperature - log_rest;
  const bool valid = isfinite(log_prob) && isfinite(sums.max);
  op.log_probs[t] = valid ? log_prob : 0;
  op.log_sum_exp[t] = valid ? static_cast<double>(sums.max) * inverse_temperature + log_rest : 0;
  if (op.entropy != nullptr)
    op.entropy[t] = valid ? log_rest - sums.weighted * inverse_temperature / (1 + sums.rest) : 0;
  op.kept[t] = valid ? 1 : 0;
  if (!valid) atomicAdd(op.non_finite, 1);
}

// Whether row t is worth reading; writes its results if not.
__device__ bool readable(const TokenLogProbsForward& op, int64_t t) {
  const bool masked = op.mask != nullptr && op.mask[t] == 0;
  const int64_t target = op.targets[t];
  if (!masked && target >= 0 && target < op.vocab) return true;
  if (threadIdx.x != 0) return false;
  op.log_probs[t] = 0;
  op.log_sum_exp[t] = 0;
  if (op.entropy != nullptr) op.entropy[t] = 0;
  op.kept[t] = 0;
  if (!masked) atomicAdd(op.non_finite, 1);
  return false;
}

template <class E, bool kEntropy>
__global__ __launch_bounds__(kThreads) void forward_kernel(TokenLogProbsForward op) {
  const double inverse_temperature = 1 / op.temperature;
  const Scale scale = base2_scale(inverse_temperature);
  for (int64_t t = blockIdx.x; t < op.tokens; t += gridDim.x) {
    if (!readable(op, t)) continue;
    const auto* row = static_cast<const typename E::Element*>(op.logits) + t * op.row_stride;
    PartialSums sums = thread_sums<E, kEntropy>(row, op.vocab, scale, inverse_temperature);
    sums = block_combine<kThreads>(sums, inverse_temperature);
    if (threadIdx.x == 0) finish_row(op, t, E::widen(row[op.targets[t]]), sums, inverse_temperature);
  }
}

// What a row's gradient needs, the same for all its elements: exp((x - shift) / T) * (alpha + beta * (x - shift)).
struct RowGradient {
  bool zero;
  float shift;
  float alpha;
  float beta;
  double g;
  double h;
};

__device__ float saturate(double x) {
  return static_cast<float>(x > kLargestFloat ? kLargestFloat : x < -kLargestFloat ? -kLargestFloat : x);
}

__device__ RowGradient row_gradient(const TokenLogProbsBackward& op, int64_t t, double inverse_temperature) {
  const bool masked = op.mask != nullptr && op.mask[t] == 0;
  const double g = masked ? 0 : op.grad_log_probs[t];
  const double h = masked || op.grad_entropy == nullptr ? 0 : op.grad_entropy[t];
  const int64_t target = op.targets[t];
  if ((g == 0 && h == 0) || target < 0 || target >= op.vocab) return {true, 0, 0, 0, 0, 0};
  // log p_v = (x_v - shift) / T - residual, with `shift` a float32 so that x_v - shift is nearly exact.
  const float shift = saturate(op.log_sum_exp[t] * op.temperature);
  const double residual = op.log_sum_exp[t] - static_cast<double>(shift) * inverse_temperature;
  const double factor = exp(-residual) * inverse_temperature;
  const double entropy = h == 0 ? 0 : op.entropy[t];
  return {false, shift, saturate(-(g + h * (entropy - residual)) * factor), saturate(-h * inverse_temperature * factor),
          g,     h};
}

// The target's own entry, without the cancellation of 1 - p.
__device__ float target_gradient(const TokenLogProbsBackward& op, int64_t t, float x, const RowGradient& row,
                                 double inverse_temperature) {
  const double log_prob = static_cast<double>(x) * inverse_temperature - op.log_sum_exp[t];
  double gradient = -row.g * expm1(log_prob);
  if (row.h != 0 && isfinite(log_prob)) gradient -= row.h * exp(log_prob) * (log_prob + op.entropy[t]);
  const double entry = gradient * inverse_temperature + 0.0;
  return magnitude(entry) <= kLargestFloat ? static_cast<float>(entry) : NAN;
}

__device__ __forceinline__ float gradient_of(float x, const RowGradient& row, const Scale& scale) {
  const float u = x - row.shift;
  const float e = exp_scaled(u, scale);
  return e <= 0.0f ? 0.0f : fmaf(e, row.beta == 0.0f ? row.alpha : fmaf(row.beta, u, row.alpha), 0.0f);  // keeps NaN
}

// Elements [begin, end) of row t. Returns whether those that this thread wrote are finite.
template <class E>
__device__ bool gradient_tile(const TokenLogProbsBackward& op, int64_t t, int64_t begin, int64_t end,
                              const RowGradient row, const Scale& scale, double inverse_temperature) {
  const auto* x = static_cast<const typename E::Element*>(op.logits) + t * op.row_stride;
  auto* out = static_cast<typename E::Element*>(op.grad_logits) + t * op.grad_row_stride;
  const int64_t target = op.targets[t];
  bool finite = true;
  const auto value = [&](int64_t v, float logit) {
    if (row.zero) return 0.0f;
    const float entry =
        v == target ? target_gradient(op, t, logit, row, inverse_temperature) : gradient_of(logit, row, scale);
    finite = finite && fabsf(entry) < E::kOverflow;
    return entry;
  };
  const auto write_one = [&](int64_t v) { out[v] = E::narrow(value(v, row.zero ? 0.0f : E::widen(x[v]))); };
  const RowSplit split = split_row<E>(out + begin, end - begin);
  const bool vectors_line_up = (reinterpret_cast<uintptr_t>(x + begin + split.head) % sizeof(uint4)) == 0;
  if (!vectors_line_up) {
    for (int64_t v = begin + threadIdx.x; v < end; v += kThreads) write_one(v);
    return finite;
  }
  for (int64_t v = begin + threadIdx.x; v < begin + split.head; v += kThreads) write_one(v);
  for (int64_t v = begin + split.tail + threadIdx.x; v < end; v += kThreads) write_one(v);
  for (int64_t index = threadIdx.x; index < split.vectors; index += kThreads) {
    const int64_t first = begin + split.head + index * E::kPerVector;
    const uint4 loaded = row.zero ? uint4{0, 0, 0, 0} : load_streaming(reinterpret_cast<const uint4*>(x + first));
    uint4 result;
#pragma unroll
    for (int i = 0; i < E::kPerVector; ++i) E::set_lane(result, i, value(first + i, E::lane(loaded, i)));
    store_streaming(reinterpret_cast<uint4*>(out + first), result);
  }
  return finite;
}

// -1 as unsigned is the largest number: no row yet.
__device__ void lower(int32_t* row, int64_t t) {
  atomicMin(reinterpret_cast<unsigned*>(row), static_cast<unsigned>(t));
}

__global__ __launch_bounds__(kThreads) void upstream_kernel(TokenLogProbsBackward op) {
  if (op.halt != nullptr && op.halt[0] != 0) return;
  for (int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x; t < op.tokens; t += int64_t{gridDim.x} * kThreads)
    if (upstream_overflows(op, t)) lower(&op.bad_rows[0], t);
}

template <class E>
__global__ __launch_bounds__(kThreads) void backward_kernel(TokenLogProbsBackward op, int64_t tiles_per_row) {
  if ((op.halt != nullptr && op.halt[0] != 0) || op.bad_rows[0] != -1) return;
  __shared__ RowGradient row;
  const double inverse_temperature = 1 / op.temperature;
  const Scale scale = base2_scale(inverse_temperature);
  for (int64_t tile = blockIdx.x; tile < op.tokens * tiles_per_row; tile += gridDim.x) {
    const int64_t t = tile / tiles_per_row;
    const int64_t begin = tile % tiles_per_row * kTile;
    const int64_t end = begin + kTile < op.vocab ? begin + kTile : op.vocab;
    __syncthreads();  // the last tile's use of `row` is over
    if (threadIdx.x == 0) row = row_gradient(op, t, inverse_temperature);
    __syncthreads();
    if (!gradient_tile<E>(op, t, begin, end, row, scale, inverse_temperature)) lower(&op.bad_rows[1], t);
  }
}

template <class E>
cudaError_t launch_forward(const TokenLogProbsForward& op, int64_t blocks, cudaStream_t stream) {
  if (op.entropy != nullptr) return launch(forward_kernel<E, true>, blocks, kThreads, stream, op);
  return launch(forward_kernel<E, false>, blocks, kThreads, stream, op);
}

int64_t at_most(int64_t blocks, int64_t limit) { return blocks < limit ? blocks : limit; }

}  // namespace

cudaError_t token_log_probs_forward(const TokenLogProbsForward& op, cudaStream_t stream) {
  if (op.tokens == 0) return cudaSuccess;
  const int64_t blocks = at_most(op.tokens, kBlocks);
  switch (op.dtype) {
    case DType::kF32:
      return launch_forward<F32>(op, blocks, stream);
    case DType::kBF16:
      return launch_forward<Bf16>(op, blocks, stream);
    case DType::kF16:
      return launch_forward<F16>(op, blocks, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t token_log_probs_backward(const TokenLogProbsBackward& op, cudaStream_t stream) {
  const int64_t tiles_per_row = (op.vocab + kTile - 1) / kTile;
  if (op.tokens == 0 || op.vocab == 0) return cudaSuccess;
  const int64_t row_blocks = at_most((op.tokens + kThreads - 1) / kThreads, kBlocks);
  const cudaError_t error = launch(upstream_kernel, row_blocks, kThreads, stream, op);
  if (error != cudaSuccess) return error;
  const int64_t blocks = at_most(op.tokens * tiles_per_row, kBlocks);
  switch (op.dtype) {
    case DType::kF32:
      return launch(backward_kernel<F32>, blocks, kThreads, stream, op, tiles_per_row);
    case DType::kBF16:
      return launch(backward_kernel<Bf16>, blocks, kThreads, stream, op, tiles_per_row);
    case DType::kF16:
      return launch(backward_kernel<F16>, blocks, kThreads, stream, op, tiles_per_row);
  }
  return cudaErrorInvalidValue;
}

}  // namespace rlvr::cuda
