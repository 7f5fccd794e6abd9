// Mistakes in kernels and launches, each in a child process that must die with its message.
#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

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
  const auto beside = [](int index) {
    const Device<float> out(64);
    emulation::watch_gap(out.data() + 57, 3 * sizeof(float));
    ok(emulation::launch(write_at, 1, 64, nullptr, out.data(), index));
  };
  for (const int index : {56, 60}) check(!in_child([&] { beside(index); }).died, "a write beside a gap");
  for (const int index : {57, 58, 59}) dies([&] { beside(index); }, {"AddressSanitizer: ", "write_at"});
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
__global__ void idle(int*) {}
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
  dies(run(idle, 0, 32), {"a grid of (0,1,1) blocks", "idle"});
  dies(run(idle, dim3(1, 65536), 32), {"a grid of (1,65536,1)"});
  dies(run(idle, 1, 0), {"a block of (0,1,1)"});
  dies(run(idle, 1, 1025), {"a block of (1025,1,1)"});
  dies(
      [] {
        int on_the_host = 0;
        ok(emulation::launch(idle, 1, 32, nullptr, &on_the_host));
      },
      {"argument 0 is no pointer to device memory"});
}

}  // namespace

void mistakes() {
  writes_out_of_bounds_are_caught();
  broken_cooperation_is_caught();
  emulation::set_order("forward");
}

}  // namespace rlvr::emulation_test
