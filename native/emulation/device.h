// What kernel code uses: qualifiers, indices, barriers, warp operations, atomics, intrinsics.
#pragma once

#include <math.h>

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "emulation/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// One block runs at a time, so a static is what its threads share. noinit makes it findable: shared_variables.cpp.
#define __shared__ static __attribute__((noinit))

// The running thread's; the scheduler sets them. Not const, or the compiler would keep one thread's value for another.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;

namespace rlvr::emulation::detail {

using Location = std::source_location;

enum class BlockOp { kSync, kOr, kAnd, kCount };
enum class WarpOp { kSync, kShuffle, kShuffleUp, kShuffleDown, kShuffleXor, kBallot, kAny, kAll };

int block_barrier(BlockOp op, int predicate, const Location& where);

// What a lane brings to a warp operation; the answer is a shuffled value's bits or a vote.
struct WarpRequest {
  WarpOp op;
  unsigned mask;
  uint64_t value;
  int operand = 0;  // source lane, delta or lane mask
  int width = warpSize;
};
uint64_t warp_operation(const WarpRequest& request, const Location& where);

void yield_thread();
// Ends the process with a message that names the running thread and the place.
[[noreturn]] void mistake(const char* what, const Location& where);

template <typename T>
__forceinline__ T shuffle(WarpOp op, unsigned mask, T value, int operand, int width, const Location& where) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = warp_operation({op, mask, bits, operand, width}, where);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T, typename... Allowed>
concept one_of = (std::same_as<T, Allowed> || ...);
template <typename T>
concept AddType = one_of<T, int, unsigned, unsigned long long, float, double>;
template <typename T>
concept IntegerType = one_of<T, int, unsigned, unsigned long long, long long>;

}  // namespace rlvr::emulation::detail

// ---- barriers and warp operations
// ------------------------------------------------------------------------------------

#define RLVR_EMULATION_HERE const std::source_location& where = std::source_location::current()

__forceinline__ void __syncthreads(RLVR_EMULATION_HERE) {
  rlvr::emulation::detail::block_barrier(rlvr::emulation::detail::BlockOp::kSync, 0, where);
}
__forceinline__ int __syncthreads_or(int predicate, RLVR_EMULATION_HERE) {
  return rlvr::emulation::detail::block_barrier(rlvr::emulation::detail::BlockOp::kOr, predicate, where);
}
__forceinline__ int __syncthreads_and(int predicate, RLVR_EMULATION_HERE) {
  return rlvr::emulation::detail::block_barrier(rlvr::emulation::detail::BlockOp::kAnd, predicate, where);
}
__forceinline__ int __syncthreads_count(int predicate, RLVR_EMULATION_HERE) {
  return rlvr::emulation::detail::block_barrier(rlvr::emulation::detail::BlockOp::kCount, predicate, where);
}
__forceinline__ void __syncwarp(unsigned mask = 0xffffffffu, RLVR_EMULATION_HERE) {
  rlvr::emulation::detail::warp_operation({rlvr::emulation::detail::WarpOp::kSync, mask, 0}, where);
}
template <typename T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, RLVR_EMULATION_HERE) {
  using namespace rlvr::emulation::detail;
  return shuffle(WarpOp::kShuffle, mask, value, source, width, where);
}
template <typename T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, RLVR_EMULATION_HERE) {
  using namespace rlvr::emulation::detail;
  return shuffle(WarpOp::kShuffleUp, mask, value, static_cast<int>(delta), width, where);
}
template <typename T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, RLVR_EMULATION_HERE) {
  using namespace rlvr::emulation::detail;
  return shuffle(WarpOp::kShuffleDown, mask, value, static_cast<int>(delta), width, where);
}
template <typename T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize, RLVR_EMULATION_HERE) {
  using namespace rlvr::emulation::detail;
  return shuffle(WarpOp::kShuffleXor, mask, value, lane_mask, width, where);
}
__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate, RLVR_EMULATION_HERE) {
  using namespace rlvr::emulation::detail;
  return static_cast<unsigned>(warp_operation({WarpOp::kBallot, mask, predicate != 0}, where));
}
__forceinline__ int __any_sync(unsigned mask, int predicate, RLVR_EMULATION_HERE) {
  using namespace rlvr::emulation::detail;
  return static_cast<int>(warp_operation({WarpOp::kAny, mask, predicate != 0}, where));
}
__forceinline__ int __all_sync(unsigned mask, int predicate, RLVR_EMULATION_HERE) {
  using namespace rlvr::emulation::detail;
  return static_cast<int>(warp_operation({WarpOp::kAll, mask, predicate != 0}, where));
}
// CUDA promises only that the caller is in it; more is convergence, which code must not rely on.
inline unsigned __activemask() {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  return 1u << (thread % 32);
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { rlvr::emulation::detail::yield_thread(); }
[[noreturn]] inline void __trap(RLVR_EMULATION_HERE) { rlvr::emulation::detail::mistake("__trap", where); }

#undef RLVR_EMULATION_HERE

// ---- memory
// ----------------------------------------------------------------------------------------------------------

#define RLVR_EMULATION_ATOMIC(NAME, CONCEPT, EXPRESSION) \
  template <rlvr::emulation::detail::CONCEPT T>          \
  T NAME(T* address, std::type_identity_t<T> value) {    \
    const T old = *address;                              \
    *address = static_cast<T>(EXPRESSION);               \
    return old;                                          \
  }
template <typename T>
constexpr T rlvr_emulation_wrapping_add(T a, T b) {  // int atomics wrap
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
  else
    return a + b;
}
RLVR_EMULATION_ATOMIC(atomicAdd, AddType, rlvr_emulation_wrapping_add(old, value))
RLVR_EMULATION_ATOMIC(atomicMax, IntegerType, old < value ? value : old)
RLVR_EMULATION_ATOMIC(atomicMin, IntegerType, value < old ? value : old)
RLVR_EMULATION_ATOMIC(atomicOr, IntegerType, old | value)
RLVR_EMULATION_ATOMIC(atomicAnd, IntegerType, old& value)
RLVR_EMULATION_ATOMIC(atomicXor, IntegerType, old ^ value)
#undef RLVR_EMULATION_ATOMIC

template <typename T>
requires(rlvr::emulation::detail::one_of<T, int, unsigned, unsigned long long, float>) T
    atomicExch(T* address, std::type_identity_t<T> value) {
  const T old = *address;
  *address = value;
  return old;
}
template <typename T>
requires(rlvr::emulation::detail::one_of<T, int, unsigned, unsigned long long, unsigned short>) T
    atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  const T old = *address;
  if (old == compare) *address = value;
  return old;
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  const unsigned old = *address;
  *address = old >= limit ? 0 : old + 1;
  return old;
}

#define RLVR_EMULATION_LOAD(NAME)            \
  template <typename T>                      \
  __forceinline__ T NAME(const T* address) { \
    return *address;                         \
  }
RLVR_EMULATION_LOAD(__ldg)
RLVR_EMULATION_LOAD(__ldcs)
RLVR_EMULATION_LOAD(__ldcg)
RLVR_EMULATION_LOAD(__ldca)
RLVR_EMULATION_LOAD(__ldlu)
RLVR_EMULATION_LOAD(__ldcv)
#undef RLVR_EMULATION_LOAD
#define RLVR_EMULATION_STORE(NAME)                                       \
  template <typename T>                                                  \
  __forceinline__ void NAME(T* address, std::type_identity_t<T> value) { \
    *address = value;                                                    \
  }
RLVR_EMULATION_STORE(__stcs)
RLVR_EMULATION_STORE(__stwt)
RLVR_EMULATION_STORE(__stcg)
RLVR_EMULATION_STORE(__stwb)
#undef RLVR_EMULATION_STORE

#include "emulation/device_math.h"
