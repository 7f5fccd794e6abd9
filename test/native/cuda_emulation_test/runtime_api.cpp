// The runtime API: memory, devices, streams and events as handles, and the errors of wrong calls.
#include <string>

#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

__global__ void idle(int*) {}

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
  check(cudaMalloc(&second, 8) == cudaErrorMemoryAllocation, "and those after it");
  emulation::fail_allocation(0);
  ok(cudaFree(pointer));
  check(cudaGetLastError() == cudaErrorMemoryAllocation, "the last error stays until it is read");
  check(cudaMalloc(&pointer, size_t{17} << 30) == cudaErrorMemoryAllocation, "more than the device has");
  ok(cudaMalloc(&pointer, 8));
  ok(cudaFree(pointer));
  ok(cudaMalloc(&pointer, 0));
  check(pointer == nullptr && emulation::live_allocations() == 0, "nothing for nothing");
  cudaGetLastError();
}

void records_can_fail() {
  const Stream stream;
  cudaEvent_t event = nullptr;
  ok(cudaEventCreate(&event));
  emulation::fail_record(2);
  ok(cudaEventRecord(event, stream));
  check(cudaEventRecord(event, stream) == cudaErrorUnknown, "the second record fails");
  ok(cudaEventRecord(event, stream));
  ok(cudaEventDestroy(event));
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
  ok(emulation::launch(idle, 1, 32, stream, out.data()));
  emulation::set_device_count(2);
  ok(cudaSetDevice(1));
  Refusals refused;
  refused(emulation::launch(idle, 1, 32, stream, out.data()), cudaErrorInvalidResourceHandle);
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

}  // namespace

void runtime_api() {
  memory_is_tracked();
  allocations_can_fail();
  records_can_fail();
  devices_and_handles();
}

}  // namespace rlvr::emulation_test
