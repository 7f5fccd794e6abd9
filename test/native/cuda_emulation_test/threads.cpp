// Threads of a block, their barriers, warp operations, atomics and shared memory.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <thread>

#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

// One sum per block, in an order that is fixed by the code: the same bits however threads take turns.
template <typename T, bool kBarrier>
__global__ void block_sum(const T* __restrict__ in, int n, T* out) {
  __shared__ T partial[32];
  const int tid = static_cast<int>(threadIdx.x);
  T sum = 0;
  for (int i = tid + static_cast<int>(blockIdx.x) * 1000; i < min(n, (static_cast<int>(blockIdx.x) + 1) * 1000);
       i += static_cast<int>(blockDim.x))
    sum += __ldg(in + i);
  for (int delta = 16; delta > 0; delta /= 2) sum += __shfl_xor_sync(kFull, sum, delta);
  if (tid % 32 == 0) partial[tid / 32] = sum;
  if (kBarrier) __syncthreads();
  if (tid < 32) {
    T total = tid < static_cast<int>(blockDim.x) / 32 ? partial[tid] : T(0);
    for (int delta = 16; delta > 0; delta /= 2) total += __shfl_down_sync(kFull, total, delta);
    if (tid == 0) out[blockIdx.x] = total;
  }
}

template <bool kBarrier = true>
std::vector<float> block_sums(int n, unsigned threads) {
  std::vector<float> in(static_cast<size_t>(n));
  for (size_t i = 0; i < in.size(); ++i) in[i] = 1.0f / static_cast<float>(i + 3);
  const Device<float> device(in);
  const unsigned blocks = static_cast<unsigned>(n + 999) / 1000;
  const Device<float> out(blocks);
  ok(emulation::launch(block_sum<float, kBarrier>, blocks, threads, nullptr, device.data(), n, out.data()));
  return out.host();
}

void sums_do_not_depend_on_turns() {
  for (const unsigned threads : {32u, 64u, 256u, 1024u}) {
    emulation::set_order("forward");
    const auto expected = block_sums(4700, threads);
    for (size_t b = 0; b < expected.size(); ++b) {
      double sum = 0;
      for (size_t i = b * 1000; i < std::min<size_t>(4700, (b + 1) * 1000); ++i)
        sum += 1.0 / static_cast<double>(i + 3);
      check(std::fabs(sum - static_cast<double>(expected[b])) < 1e-5 * sum, "the sum of a block");
    }
    for (const char* order : kOrders) {
      emulation::set_order(order);
      check(block_sums(4700, threads) == expected, "the same bits in every order");
    }
  }
}

void a_missing_barrier_shows() {
  emulation::set_order("forward");
  const auto correct = block_sums(4700, 256);
  int wrong = 0;
  for (const char* order : kOrders) {
    emulation::set_order(order);
    wrong += block_sums<false>(4700, 256) != correct;
  }
  check(wrong >= 2, "a missing barrier gives other results in some order");
  emulation::set_order("forward");
  const auto forward = block_sums<false>(4700, 256);
  check(std::isnan(forward[0]) && std::isnan(forward[4]), "what nobody wrote is NaN, not the previous block's value");
}

__global__ void stale(int* out) {
  __shared__ int value;
  if (threadIdx.x == 0) out[blockIdx.x] = value;
  __syncthreads();
  value = 7;
}

void shared_memory_starts_filled() {
  const Device<int> out(3);
  for (const int byte : {0xff, 0xa5}) {
    emulation::set_fill(static_cast<uint8_t>(byte));
    ok(emulation::launch(stale, 3, 32, nullptr, out.data()));
    const int filled = static_cast<int>(static_cast<unsigned>(byte) * 0x01010101u);
    check(out.host() == std::vector<int>(3, filled), "shared memory starts filled in every block");
    check(Device<int>(1).host()[0] == filled, "device memory starts filled");
  }
  emulation::set_fill(0xff);
}

constexpr int kShuffles = 10;
template <typename T>
__global__ void shuffles(T* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const T value = static_cast<T>(100 + lane);
  T* const row = out + threadIdx.x * kShuffles;
  row[0] = __shfl_sync(kFull, value, 5);
  row[1] = __shfl_sync(kFull, value, lane + 1);  // modulo the width
  row[2] = __shfl_up_sync(kFull, value, 3);
  row[3] = __shfl_down_sync(kFull, value, 3);
  row[4] = __shfl_xor_sync(kFull, value, 9);
  row[5] = __shfl_sync(kFull, value, 9, 8);
  row[6] = __shfl_up_sync(kFull, value, 2, 8);
  row[7] = __shfl_down_sync(kFull, value, 2, 8);
  row[8] = __shfl_xor_sync(kFull, value, 8, 8);  // lands in another segment
  row[9] = lane < 8 ? __shfl_xor_sync(0xffu, value, 1) : value;
}

template <typename T>
void shuffles_match() {
  const Device<T> device(size_t{64} * kShuffles);
  ok(emulation::launch(shuffles<T>, 1, 64, nullptr, device.data()));
  const auto out = device.host();
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32;
    const int segment = lane / 8 * 8;
    const int sources[kShuffles] = {5,
                                    (lane + 1) % 32,
                                    lane < 3 ? lane : lane - 3,
                                    lane + 3 > 31 ? lane : lane + 3,
                                    lane ^ 9,
                                    segment + 1,
                                    lane - 2 < segment ? lane : lane - 2,
                                    lane + 2 > segment + 7 ? lane : lane + 2,
                                    (lane ^ 8) > segment + 7 ? lane : lane ^ 8,
                                    lane < 8 ? lane ^ 1 : lane};
    for (int i = 0; i < kShuffles; ++i)
      check(out[static_cast<size_t>(t * kShuffles + i)] == static_cast<T>(100 + sources[i]), "a shuffle");
  }
}

__global__ void votes(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  unsigned* const row = out + threadIdx.x * 9;
  row[0] = __ballot_sync(kFull, lane % 3 == 0);
  row[1] = static_cast<unsigned>(__any_sync(kFull, threadIdx.x == 40));
  row[2] = static_cast<unsigned>(__all_sync(kFull, threadIdx.x < 32));
  row[3] = static_cast<unsigned>(__syncthreads_or(threadIdx.x == 40));
  row[4] = static_cast<unsigned>(__syncthreads_and(threadIdx.x != 40));
  row[5] = static_cast<unsigned>(__syncthreads_count(lane < 5));
  row[6] = __activemask();
  __syncwarp();
  if (lane >= 16) return;  // the rest goes on without them
  row[7] = __ballot_sync(0xffffu, lane == 2);
  row[8] = static_cast<unsigned>(__syncthreads_count(1));
}

void votes_match() {
  for (const char* order : kOrders) {
    emulation::set_order(order);
    const Device<unsigned> device(size_t{64} * 9);
    ok(emulation::launch(votes, 1, 64, nullptr, device.data()));
    const auto out = device.host();
    for (unsigned t = 0; t < 64; ++t) {
      const unsigned* const row = out.data() + t * 9;
      check(row[0] == 0x49249249u, "ballot");
      check(row[1] == (t >= 32) && row[2] == (t < 32), "any and all");
      check(row[3] == 1 && row[4] == 0 && row[5] == 10, "votes of a block");
      check((row[6] >> t % 32 & 1u) == 1, "the active mask holds the caller");
      if (t % 32 < 16) check(row[7] == 4 && row[8] == 32, "threads that ended do not count");
    }
  }
}

struct Totals {
  int sum;
  unsigned count;
  float real;
  double wide;
  unsigned long long big;
  int high;
  unsigned low;
  unsigned bits;
  int swapped;
  unsigned last;
};
__global__ void atomics(Totals* totals) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&totals->sum, i);
  atomicAdd(&totals->count, 1u);
  atomicAdd(&totals->real, 0.5f);
  atomicAdd(&totals->wide, 0.25);
  atomicAdd(&totals->big, 1ull << 40);
  atomicMax(&totals->high, i);
  atomicMin(&totals->low, static_cast<unsigned>(1000 - i));
  atomicOr(&totals->bits, 1u << (i % 32));
  atomicCAS(&totals->swapped, -1, i);
  if (i == 3) atomicExch(&totals->last, 9u);
}

void atomics_add_up() {
  const Device<Totals> device(std::vector<Totals>{{0, 0, 0, 0, 0, -5, 5000, 0, -1, 0}});
  emulation::set_order("reverse");
  ok(emulation::launch(atomics, 4, 128, nullptr, device.data()));
  const Totals totals = device.host()[0];
  check(totals.sum == 512 * 511 / 2 && totals.count == 512 && totals.big == 512ull << 40, "integer sums");
  check(totals.real == 256 && totals.wide == 128, "real sums");
  check(totals.high == 511 && totals.low == 489 && totals.bits == kFull, "max, min, or");
  check(totals.swapped == 511 && totals.last == 9, "the first thread in reverse order is the last one");
}

__global__ void indices(uint3* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = make_uint3(threadIdx.z, threadIdx.y, blockIdx.z);
}

void indices_cover_the_grid() {
  for (const char* order : kOrders) {
    emulation::set_order(order);
    const Device<uint3> device(2 * 3 * 4 * 5 * 2 * 3);
    ok(emulation::launch(indices, dim3(2, 3, 4), dim3(5, 2, 3), nullptr, device.data()));
    const auto out = device.host();
    for (unsigned i = 0; i < out.size(); ++i)
      check(out[i].x == i % 30 / 10 && out[i].y == i % 10 / 5 && out[i].z == i / 180, "three dimensions");
  }
}

void host_threads_take_turns() {
  emulation::set_order("forward");
  const auto expected = block_sums(4700, 256);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) check(block_sums(4700, 256) == expected, "launches from many threads");
    });
  for (std::thread& thread : threads) thread.join();
}

__global__ void ten_barriers(int* out) {
  for (int i = 0; i < 10; ++i) __syncthreads();
  if (threadIdx.x == 0) *out = 1;
}

}  // namespace

void threads() {
  sums_do_not_depend_on_turns();
  a_missing_barrier_shows();
  shared_memory_starts_filled();
  emulation::set_order("forward");
  shuffles_match<int>();
  shuffles_match<float>();
  shuffles_match<double>();
  shuffles_match<unsigned long long>();
  votes_match();
  atomics_add_up();
  indices_cover_the_grid();
  host_threads_take_turns();
}

void speed() {
  constexpr unsigned kBlocks = 400;
  const Device<int> out(1);
  ok(emulation::launch(ten_barriers, kBlocks, 256, nullptr, out.data()));
  const auto start = std::chrono::steady_clock::now();
  ok(emulation::launch(ten_barriers, kBlocks, 256, nullptr, out.data()));
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
  std::printf("a block of 256 threads and 10 barriers: %.0f us, %.0f ns per switch\n", time.count() / kBlocks,
              1000 * time.count() / kBlocks / 2560);
}

}  // namespace rlvr::emulation_test
