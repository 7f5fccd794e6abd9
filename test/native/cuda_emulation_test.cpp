// The CUDA emulation itself: its fibers, barriers, warp operations and memory do what a GPU's do, and the mistakes that
// a GPU would not forgive (a write out of bounds, a missing or divergent barrier, a host pointer) are caught.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "cuda_emulation_test/support.h"

namespace {

namespace emulation = rlvr::emulation;
using namespace rlvr::emulation_test;

const char* const kOrders[] = {"forward", "reverse", "1", "2", "77"};

// ---- kernels
// ---------------------------------------------------------------------------------------------------------

constexpr unsigned kFull = 0xffffffffu;

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

// ---- mistakes: each in a child process that must die with its message
// --------------------------------------------------

__global__ void write_at(float* out, int index) {
  __syncthreads();  // the write happens on a fiber that has been switched
  if (threadIdx.x == 3) out[index] = 1;
}
__global__ void write_shared(float* out, int index) {
  __shared__ float row[32];
  float* volatile decayed = row;  // past the reach of UBSan, which knows the size of row
  decayed[threadIdx.x] = 1;
  __syncthreads();
  decayed[threadIdx.x + static_cast<unsigned>(index)] = 2;
  __syncthreads();
  out[threadIdx.x] = row[0];
}
__global__ void misaligned(const float* in, float* out) { *out = reinterpret_cast<const float4*>(in + 1)->x; }

void writes_out_of_bounds_are_caught() {
  if (!kAsan) return;
  const auto write = [](int index) {
    const Device<float> out(64);
    ok(emulation::launch(write_at, 1, 64, nullptr, out.data(), index));
  };
  check(!in_child([&] { write(63); }).died, "a write at the end is fine");
  dies([&] { write(64); }, {"AddressSanitizer: heap-buffer-overflow", "write_at"});
  dies([&] { write(-1); }, {"AddressSanitizer: heap-buffer-overflow", "write_at"});
  const auto shared = [](int index) {
    const Device<float> out(32);
    ok(emulation::launch(write_shared, 1, 32, nullptr, out.data(), index));
  };
  check(!in_child([&] { shared(0); }).died, "shared memory within bounds");
  dies([&] { shared(1); }, {"AddressSanitizer: global-buffer-overflow", "row"});
  dies(
      [] {
        const Device<char> out(13);
        const char text[14] = {};
        ok(cudaMemcpy(out.data(), text, 13, cudaMemcpyHostToDevice));
        out.data()[4] = 1;
      },
      {"AddressSanitizer: use-after-poison"});
  dies(
      [] {
        const Device<float> in(16);
        const Device<float> out(1);
        ok(emulation::launch(misaligned, 1, 1, nullptr, in.data(), out.data()));
      },
      {"misaligned address"});
}

__global__ void half_a_barrier(int* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = __shfl_sync(kFull, 1, 0);
}
__global__ void two_barriers(int* out) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void early_end(int* out) {
  if (threadIdx.x == 31) return;
  out[threadIdx.x] = __shfl_sync(kFull, 1, 0);
}
__global__ void outside_the_mask(int* out) {
  if (threadIdx.x < 8) out[threadIdx.x] = __shfl_sync(0xffu, 1, 9);
}
__global__ void not_in_the_mask(int* out) { out[threadIdx.x] = __any_sync(0xffu, 1); }
__global__ void traps(int* out) {
  out[0] = 1;
  __trap();
}

void broken_cooperation_is_caught() {
  const auto run = [](void (*kernel)(int*), dim3 grid, dim3 block) {
    return [=] {
      const Device<int> out(1024);
      ok(emulation::launch(kernel, grid, block, nullptr, out.data()));
    };
  };
  for (const char* order : kOrders) {
    emulation::set_order(order);
    dies(run(half_a_barrier, 1, 32), {"divergent barrier", "half_a_barrier", "block (0,0,0)", "16 of 32"});
    dies(run(two_barriers, 1, 64), {"divergent barrier", "two_barriers", "thread (32,0,0) waits at __syncthreads"});
    dies(run(early_end, 1, 32), {"thread (31,0,0)", "ended", "__shfl_sync"});
  }
  dies(run(early_end, 1, 16), {"the block has no thread for lane 16"});
  dies(run(outside_the_mask, 1, 32), {"reads lane 9", "not in the mask"});
  dies(run(not_in_the_mask, 1, 32), {"the mask lacks the calling lane"});
  dies(run(traps, 1, 1), {"__trap"});
  dies(run(stale, 0, 32), {"a grid of (0,1,1) blocks", "stale"});
  dies(run(stale, dim3(1, 65536), 32), {"a grid of (1,65536,1)"});
  dies(run(stale, 1, 0), {"a block of (0,1,1)"});
  dies(run(stale, 1, 1025), {"a block of (1025,1,1)"});
  dies(
      [] {
        int on_the_host = 0;
        ok(emulation::launch(stale, 1, 32, nullptr, &on_the_host));
      },
      {"argument 0 is no pointer to device memory"});
}

// ---- the runtime API
// -------------------------------------------------------------------------------------------------

void memory_is_tracked() {
  const int64_t misuses = emulation::misuse_count();
  int64_t expected = 0;
  const auto refused = [&](cudaError_t status, cudaError_t code) {
    check(status == code && cudaGetLastError() == code && cudaGetLastError() == cudaSuccess, "a coded error");
    check(emulation::misuse_count() == misuses + ++expected, "a misuse is counted");
  };
  char host[64] = {};
  {
    const Device<char> a(13);
    const Device<char> b(13);
    check(emulation::live_allocations() == 2 && emulation::live_bytes() == 26, "live memory");
    check(reinterpret_cast<uintptr_t>(a.data()) % 256 == 0, "aligned as cudaMalloc aligns");
    ok(cudaMemcpy(a.data() + 5, "1234567", 8, cudaMemcpyHostToDevice));
    ok(cudaMemcpyAsync(b.data(), a.data() + 5, 8, cudaMemcpyDeviceToDevice, nullptr));
    ok(cudaMemcpy(host, b.data(), 8, cudaMemcpyDefault));
    check(std::string(host) == "1234567", "copies there, across and back");
    ok(cudaMemset(a.data() + 1, 'x', 12));
    ok(cudaMemcpy2DAsync(host, 4, a.data() + 1, 6, 3, 2, cudaMemcpyDeviceToHost));
    check(std::string(host, 3) == "xxx" && host[3] == '4' && std::string(host + 4, 3) == "xxx", "rows");
    refused(cudaMemcpy(a.data() + 6, host, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    refused(cudaMemcpy(host, a.data() - 1, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    refused(cudaMemcpy(host, host + 8, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    refused(cudaMemcpy(a.data(), b.data(), 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    refused(cudaMemcpy2DAsync(host, 4, a.data(), 6, 8, 2, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    refused(cudaMemset(a.data() + 1, 0, 13), cudaErrorInvalidValue);
    refused(cudaFree(a.data() + 1), cudaErrorInvalidValue);
    refused(cudaFree(host), cudaErrorInvalidValue);
    refused(cudaFreeHost(a.data()), cudaErrorInvalidValue);
    cudaPointerAttributes attributes;
    ok(cudaPointerGetAttributes(&attributes, a.data() + 12));
    check(attributes.type == cudaMemoryTypeDevice && attributes.device == 0, "a device pointer");
    ok(cudaPointerGetAttributes(&attributes, host));
    check(attributes.type == cudaMemoryTypeUnregistered, "a host pointer");
  }
  check(emulation::live_allocations() == 0 && emulation::live_bytes() == 0, "all freed");
  char* pinned = nullptr;
  ok(cudaMallocHost(&pinned, 5));
  pinned[4] = 1;
  ok(cudaFreeHost(pinned));
  refused(cudaFreeHost(pinned), cudaErrorInvalidValue);
  ok(cudaFree(nullptr));
}

void allocations_can_fail() {
  void* pointer = nullptr;
  emulation::fail_allocation(2);
  ok(cudaMalloc(&pointer, 8));
  void* second = &pointer;
  check(cudaMalloc(&second, 8) == cudaErrorMemoryAllocation && second == nullptr, "the second allocation fails");
  ok(cudaFree(pointer));
  check(cudaGetLastError() == cudaErrorMemoryAllocation, "the last error stays until it is read");
  check(cudaMalloc(&pointer, size_t{17} << 30) == cudaErrorMemoryAllocation, "more than the device has");
  ok(cudaMalloc(&pointer, 8));
  ok(cudaFree(pointer));
  ok(cudaMalloc(&pointer, 0));
  check(pointer == nullptr && emulation::live_allocations() == 0, "nothing for nothing");
  cudaGetLastError();
}

void devices_and_handles() {
  cudaDeviceProp properties;
  ok(cudaGetDeviceProperties(&properties, 0));
  check(std::string(properties.name) == "emulated" && properties.major == 9, "the device");
  check(cudaSetDevice(1) == cudaErrorInvalidDevice, "there is one device");
  emulation::set_device_count(0);
  int count = -1;
  check(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0, "or none");
  emulation::set_device_count(1);
  cudaStream_t stream = nullptr;
  ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const Device<int> out(1);
  ok(emulation::launch(stale, 1, 32, stream, out.data()));
  emulation::set_device_count(2);
  ok(cudaSetDevice(1));
  Refusals refused;
  refused(emulation::launch(stale, 1, 32, stream, out.data()), cudaErrorInvalidResourceHandle);
  ok(cudaSetDevice(0));
  emulation::set_device_count(1);
  cudaEvent_t event = nullptr;
  ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  ok(cudaEventRecord(event, stream));
  ok(cudaStreamWaitEvent(stream, event));
  int called = 0;
  ok(cudaLaunchHostFunc(
      stream,
      [](void* data) {
        void* memory = nullptr;
        check(cudaMalloc(&memory, 1) == cudaErrorNotPermitted, "no CUDA call in a host function");
        ++*static_cast<int*>(data);
      },
      &called));
  ok(cudaStreamSynchronize(stream));
  check(called == 1, "the host function ran");
  check(emulation::live_streams() == 1 && emulation::live_events() == 1, "live handles");
  ok(cudaEventDestroy(event));
  ok(cudaStreamDestroy(stream));
  check(cudaStreamQuery(stream) == cudaErrorInvalidResourceHandle, "a dead stream");
  check(emulation::live_streams() == 0 && emulation::live_events() == 0, "no handle left");
}

// ---- numbers
// ---------------------------------------------------------------------------------------------------------

void float16_rounds_to_even() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto u = static_cast<unsigned short>(bits);
    const float half = __half2float(__ushort_as_half(u));
    const float brain = __bfloat162float(__ushort_as_bfloat16(u));
    check(__half_as_ushort(__float2half_rn(half)) == (std::isnan(half) ? 0x7fff : u), "f16 there and back");
    check(__bfloat16_as_ushort(__float2bfloat16_rn(brain)) == (std::isnan(brain) ? 0x7fff : u), "bf16 there and back");
  }
  struct Case {
    float value;
    unsigned short half;
    unsigned short brain;
  };
  const Case cases[] = {
      {65519.996f, 0x7bff, 0x4780},  {65520.0f, 0x7c00, 0x4780},      {0x1p-25f, 0x0000, 0x3300},
      {0x1.8p-24f, 0x0002, 0x33c0},  {1 + 0x1p-11f, 0x3c00, 0x3f80},  {1 + 0x1.8p-10f, 0x3c02, 0x3f80},
      {1 + 0x1p-8f, 0x3c04, 0x3f80}, {1 + 0x1.8p-7f, 0x3c0c, 0x3f82}, {-INFINITY, 0xfc00, 0xff80},
      {3.4e38f, 0x7c00, 0x7f80},     {-0.0f, 0x8000, 0x8000},         {NAN, 0x7fff, 0x7fff}};
  for (const Case& c : cases) {
    check(__half_as_ushort(__float2half_rn(c.value)) == c.half, "f16 rounding");
    check(__bfloat16_as_ushort(__float2bfloat16_rn(c.value)) == c.brain, "bf16 rounding");
  }
  check(__popc(0xf0u) == 4 && __ffs(8) == 4 && __ffs(0) == 0 && __clz(1) == 31, "bits");
  check(__float_as_uint(1.0f) == 0x3f800000u && std::isinf(CUDART_INF_F) && max(1.0f, CUDART_NAN_F) == 1, "floats");
  static_assert(alignof(float4) == 16 && alignof(uint4) == 16 && alignof(uint2) == 8 && sizeof(__half2) == 4);
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

void report_speed() {
  constexpr unsigned kBlocks = 400;
  const Device<int> out(1);
  ok(emulation::launch(ten_barriers, kBlocks, 256, nullptr, out.data()));
  const auto start = std::chrono::steady_clock::now();
  ok(emulation::launch(ten_barriers, kBlocks, 256, nullptr, out.data()));
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
  std::printf("a block of 256 threads and 10 barriers: %.0f us, %.0f ns per switch\n", time.count() / kBlocks,
              1000 * time.count() / kBlocks / 2560);
}

}  // namespace

int main() {
  emulation::set_fill(0xff);
  for (const bool async : {true, false}) {
    emulation::set_async(async);
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
    memory_is_tracked();
    allocations_can_fail();
    devices_and_handles();
    writes_out_of_bounds_are_caught();
    broken_cooperation_is_caught();
    host_threads_take_turns();
    pools();
    graphs();
  }
  asynchrony();
  float16_rounds_to_even();
  report_speed();
  check(emulation::live_allocations() == 0 && emulation::live_streams() == 0 && emulation::live_events() == 0 &&
            emulation::live_graphs() == 0 && emulation::live_pools() == 0,
        "nothing leaked");
  std::puts("cuda emulation: ok");
  return 0;
}
