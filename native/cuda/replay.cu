// See replay.h. A row is a warp's: of a vocabulary a sampler leaves tens or hundreds of ids. Sums are taken against the row's largest
// logit, in float64, of which there is little to do, and in the order of the ids, so to the same bits on every device; the logits are
// read twice, the second time from the caches.
#include <climits>

#include "cuda/forward_row.h"
#include "cuda/logits_gradient.h"
#include "cuda/ops.h"
#include "cuda/reduce.h"
#include "cuda/replay.h"
#include "cuda/upstream_phase.h"

namespace rlvr::cuda {
namespace {

// What row t keeps: ids and how many.
struct KeptIds {
  const int32_t* ids;
  int64_t first;  // place among those of all rows
  int64_t count;
  int64_t vocab;

  __device__ KeptIds(const Replay& replay, int64_t t, int64_t vocab_)
      : ids(replay.kept_ids + replay.cu_kept[t]),
        first(replay.cu_kept[t]),
        count(kept_count(replay, t)),
        vocab(vocab_) {}

  __device__ bool has(int32_t id) const { return id >= 0 && id < vocab; }
};

// Calls each(t) for the rows of this warp.
template <class Each>
__device__ void for_rows(int64_t tokens, Each each) {
  const int64_t warps = int64_t{gridDim.x} * kRowWarps;
  for (int64_t t = int64_t{blockIdx.x} * kRowWarps + warp_index(); t < tokens; t += warps) each(t);
}

// Calls each(k, id) for the ids of this lane; an id that is not of the vocabulary was changed under us, and is -1.
template <class Each>
__device__ void for_kept(const KeptIds& kept, Each each) {
  for (int64_t k = lane_index(); k < kept.count; k += kWarp) {
    const int32_t id = kept.ids[k];
    each(k, kept.has(id) ? id : -1);
  }
}

// The largest logit of a row, the first of those if there are several; NaN if there is one.
struct Largest {
  float value;
  int64_t at;
};

template <class E>
__device__ Largest largest_of(const typename E::Element* logits, const KeptIds& kept) {
  float value = -INFINITY;
  int64_t at = INT_MAX;
  for_kept(kept, [&](int64_t k, int32_t id) {
    const float x = id < 0 ? NAN : E::widen(logits[id]);
    if (x > value) at = k;
    value = max_keeping_nan(value, x);
  });
  const float largest = warp_reduce(value, max_keeping_nan);
  const auto mine = static_cast<int>(value == largest ? at : INT_MAX);
  return {largest, warp_reduce(mine, [](int a, int b) { return a < b ? a : b; })};
}

// 2^t for t <= 0, as precise for -1000 as for -1; 0 from there down.
__device__ double power(double t) {
  if (!(t > -1000)) return 0;
  const double whole = rint(t);
  const auto bits = static_cast<long long>(whole + 1023) << 52;
  return __longlong_as_double(bits) * static_cast<double>(exp2_approx(static_cast<float>(t - whole)));
}

// The sum of 2^e over all of a row but its largest element, and weighted with e.
template <class E>
__device__ Sums rest_of(const typename E::Element* logits, const KeptIds& kept, const Largest& largest, double inverse) {
  Sums sums{0, 0};
  for_kept(kept, [&](int64_t k, int32_t id) {
    if (k == largest.at || id < 0) return;
    const double distance = static_cast<double>(E::widen(logits[id])) - static_cast<double>(largest.value);
    const double t = distance * (inverse * kLog2E);
    const double term = power(t);
    sums.total += term;
    if (term > 0) sums.weighted += term * t;
  });
  return {warp_sum(sums.total), warp_sum(sums.weighted)};
}

__global__ __launch_bounds__(kRowThreads) void replay_mask_kernel(Replay replay, int64_t tokens, const uint8_t* given,
                                                                  uint8_t* mask) {
  for (int64_t t = int64_t{blockIdx.x} * kRowThreads + threadIdx.x; t < tokens; t += int64_t{gridDim.x} * kRowThreads)
    mask[t] = (given == nullptr || given[t] != 0) && kept_count(replay, t) == 0 ? 1 : 0;
}

template <class E>
__global__ __launch_bounds__(kRowThreads) void replay_forward_kernel(TokenLogProbsForward op) {
  const double inverse = 1 / op.temperature;
  for_rows(op.tokens, [&](int64_t t) {
    if (kept_count(op.replay, t) == 0 || masked(op, t)) return;
    const auto* logits = static_cast<const typename E::Element*>(op.logits) + t * op.row_stride;
    const KeptIds kept(op.replay, t, op.vocab);
    const Largest largest = largest_of<E>(logits, kept);
    const Sums rest = rest_of<E>(logits, kept, largest, inverse);
    if (lane_index() != 0) return;
    const int32_t target = op.targets[t];
    const float absent = target == kNoTarget ? 0.0f : NAN;
    finish_row(op, t, kept.has(target) ? E::widen(logits[target]) : absent, largest.value, rest, inverse);
  });
}

// The scratch memory of a backward pass: a mask [T], and [K] gradients.
constexpr int64_t kAlignment = 256;

__host__ __device__ int64_t mask_bytes(int64_t tokens) { return (tokens + kAlignment - 1) / kAlignment * kAlignment; }

template <class Element>
__device__ Element* kept_gradients(const TokenLogProbsBackward& op) {
  return reinterpret_cast<Element*>(static_cast<char*>(op.replay_scratch) + mask_bytes(op.tokens));
}

__device__ bool halted(const TokenLogProbsBackward& op) {
  return (op.halt != nullptr && op.halt[0] != 0) || op.bad_rows[0] != -1;
}

template <class E>
__global__ __launch_bounds__(kRowThreads) void replay_gradient_kernel(TokenLogProbsBackward op, Scale scale) {
  if (halted(op)) return;
  auto* gradients = kept_gradients<typename E::Element>(op);
  for_rows(op.tokens, [&](int64_t t) {
    if (kept_count(op.replay, t) == 0) return;
    const auto* logits = static_cast<const typename E::Element*>(op.logits) + t * op.row_stride;
    const KeptIds kept(op.replay, t, op.vocab);
    const RowGradient row = row_gradient<E>(op, t, scale);
    bool finite = true;
    for_kept(kept, [&](int64_t k, int32_t id) {
      float entry = 0;
      if (!row.zero && id >= 0) {
        const float x = E::widen(logits[id]);
        if (id == op.targets[t])
          entry = target_gradient(op, t, x, row, scale.inverse);
        else
          entry = op.grad_entropy == nullptr ? entry_of<E, false>(x, row) : entry_of<E, true>(x, row);
      }
      gradients[kept.first + k] = E::narrow(entry);
      finite = finite && isfinite(E::widen(gradients[kept.first + k]));
    });
    if (!finite) lower(&op.bad_rows[1], t);
  });
}

template <class Element>
__global__ __launch_bounds__(kRowThreads) void replay_scatter_kernel(TokenLogProbsBackward op) {
  if (halted(op)) return;
  const auto* gradients = kept_gradients<Element>(op);
  for_rows(op.tokens, [&](int64_t t) {
    auto* out = static_cast<Element*>(op.grad_logits) + t * op.grad_row_stride;
    const KeptIds kept(op.replay, t, op.vocab);
    for_kept(kept, [&](int64_t k, int32_t id) {
      if (id >= 0) out[id] = gradients[kept.first + k];
    });
  });
}

int64_t blocks_for(int64_t rows) { return (rows + kRowWarps - 1) / kRowWarps; }

cudaError_t launch_forward(void (*kernel)(TokenLogProbsForward), const TokenLogProbsForward& op, cudaStream_t stream) {
  return launch_resident(kernel, blocks_for(op.tokens), kRowThreads, stream, op);
}

template <class E>
cudaError_t launch_gradients(const TokenLogProbsBackward& op, cudaStream_t stream) {
  const Scale scale = scale_of<E::kExactScale>(op.temperature);
  return launch_resident(replay_gradient_kernel<E>, blocks_for(op.tokens), kRowThreads, stream, op, scale);
}

}  // namespace

int64_t replay_scratch(int64_t tokens, int64_t ids) {
  return ids == 0 ? 0 : mask_bytes(tokens) + ids * int64_t{sizeof(float)};
}

uint8_t* replay_mask(const TokenLogProbsBackward& op) { return static_cast<uint8_t*>(op.replay_scratch); }

cudaError_t mask_rows(const Replay& replay, int64_t tokens, const uint8_t* given, uint8_t* mask, cudaStream_t stream) {
  const int64_t blocks = (tokens + kRowThreads - 1) / kRowThreads;
  return launch_resident(replay_mask_kernel, blocks, kRowThreads, stream, replay, tokens, given, mask);
}

cudaError_t replay_forward(const TokenLogProbsForward& op, cudaStream_t stream) {
  if (op.replay.cu_kept == nullptr) return cudaSuccess;
  switch (op.dtype) {
    case DType::kF32:
      return launch_forward(replay_forward_kernel<F32>, op, stream);
    case DType::kBF16:
      return launch_forward(replay_forward_kernel<Bf16>, op, stream);
    case DType::kF16:
      return launch_forward(replay_forward_kernel<F16>, op, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t replay_gradients(const TokenLogProbsBackward& op, cudaStream_t stream) {
  if (op.replay_scratch == nullptr) return cudaSuccess;
  switch (op.dtype) {
    case DType::kF32:
      return launch_gradients<F32>(op, stream);
    case DType::kBF16:
      return launch_gradients<Bf16>(op, stream);
    case DType::kF16:
      return launch_gradients<F16>(op, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t replay_scatter(const TokenLogProbsBackward& op, cudaStream_t stream) {
  if (op.replay_scratch == nullptr) return cudaSuccess;
  const auto kernel = op.dtype == DType::kF32 ? replay_scatter_kernel<float> : replay_scatter_kernel<uint16_t>;
  return launch_resident(kernel, blocks_for(op.tokens), kRowThreads, stream, op);
}

}  // namespace rlvr::cuda
