// Machines that differ: old drivers, no memory pools, no kernels for the device; and what handles belong to.
#include <thread>

#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

using emulation::Trait;

// A trait, for a scope.
class Pretend {
 public:
  Pretend(Trait which, int64_t value) : which_(which) { emulation::set_trait(which, value); }
  Pretend(const Pretend&) = delete;
  ~Pretend() {
    emulation::set_trait(which_, -1);
    cudaGetLastError();
  }

 private:
  Trait which_;
};

__global__ void idle(int*) {}

void old_drivers_do_nothing() {
  const Pretend old(Trait::kDriver, 12040);
  int value = 0;
  void* memory = nullptr;
  ok(cudaDriverGetVersion(&value));
  check(value == 12040, "the version of an old driver");
  check(cudaGetDeviceCount(&value) == cudaErrorInsufficientDriver, "a driver that is too old");
  check(cudaMalloc(&memory, 8) == cudaErrorInsufficientDriver, "for every call");
}

void devices_without_something() {
  const Device<int> out(1);
  cudaFuncAttributes attributes{};
  ok(cudaFuncGetAttributes(&attributes, idle));
  {
    const Pretend none(Trait::kImages, 0);
    check(cudaFuncGetAttributes(&attributes, idle) == cudaErrorNoKernelImageForDevice, "no image");
    check(emulation::launch(idle, 1, 1, nullptr, out.data()) == cudaErrorNoKernelImageForDevice, "no launch");
  }
  const Pretend none(Trait::kPools, 0);
  int supported = 1;
  ok(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, 0));
  cudaMemPoolProps properties{};
  cudaMemPool_t pool = nullptr;
  check(supported == 0 && cudaMemPoolCreate(&pool, &properties) == cudaErrorNotSupported, "no pools");
}

void rows_may_be_too_far_apart() {
  Refusals refused;
  const Pretend near(Trait::kMaxPitch, 16);
  const Device<char> device(64);
  char host[64] = {};
  ok(cudaMemcpy2D(device.data(), 16, host, 8, 8, 4, cudaMemcpyHostToDevice));
  refused(cudaMemcpy2D(device.data(), 17, host, 8, 8, 3, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
  refused(cudaMemcpy2DAsync(host, 20, device.data(), 8, 8, 3, cudaMemcpyDeviceToHost), cudaErrorInvalidPitchValue);
  refused.end();
}

void each_thread_has_its_stream() {
  emulation::set_async(true);
  const Pinned<int> host(1, 5);
  const Device<int> device(1);
  ok(cudaMemsetAsync(device.data(), 0, sizeof(int), cudaStreamPerThread));
  ok(cudaMemcpyAsync(device.data(), host.data(), sizeof(int), cudaMemcpyHostToDevice, cudaStreamPerThread));
  std::thread([&] { ok(cudaStreamSynchronize(cudaStreamPerThread)); }).join();
  check(cudaStreamQuery(cudaStreamPerThread) == cudaErrorNotReady, "another thread waits for its own");
  ok(cudaStreamSynchronize(cudaStreamPerThread));
  check(device.host()[0] == 5, "and this thread for its own");
  cudaGetLastError();
  emulation::set_async(false);
}

void events_are_of_a_device() {
  emulation::set_device_count(2);
  const Event event;
  ok(cudaSetDevice(1));
  {
    const Stream stream;
    check(cudaEventRecord(event, stream) == cudaErrorInvalidResourceHandle, "an event of another device");
    cudaGetLastError();
  }
  ok(cudaSetDevice(0));
  emulation::set_device_count(1);
}

void operations_are_counted() {
  const auto before = emulation::operations();
  const Stream stream;
  const Device<int> out(4);
  int host[4] = {};
  ok(emulation::launch(idle, 1, 1, stream, out.data()));
  ok(cudaMemsetAsync(out.data(), 0, 4, stream));
  ok(cudaMemcpyAsync(out.data(), host, 4, cudaMemcpyHostToDevice, stream));
  ok(cudaMemcpy2DAsync(out.data(), 8, host, 8, 4, 2, cudaMemcpyHostToDevice, stream));
  int* memory = nullptr;
  ok(cudaMallocAsync(&memory, 4, stream));
  ok(cudaFreeAsync(memory, stream));
  const auto after = emulation::operations();
  check(after.launches - before.launches == 1 && after.memsets - before.memsets == 1, "launches and memsets");
  check(after.copies - before.copies == 2 && after.copies_2d - before.copies_2d == 1, "copies");
  check(after.allocations - before.allocations == 1 && after.frees - before.frees == 1, "memory in stream order");
}

}  // namespace

void machines() {
  old_drivers_do_nothing();
  devices_without_something();
  rows_may_be_too_far_apart();
  each_thread_has_its_stream();
  events_are_of_a_device();
  operations_are_counted();
}

}  // namespace rlvr::emulation_test
