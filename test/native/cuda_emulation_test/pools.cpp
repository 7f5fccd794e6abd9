// Memory pools: whose memory it is, what they count, and when they go.
#include "cuda_emulation_test/support.h"

namespace rlvr::emulation_test {
namespace {

cudaMemPoolProps on_device(int device) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.handleTypes = cudaMemHandleTypeNone;
  properties.location = {cudaMemLocationTypeDevice, device};
  return properties;
}
cudaMemPool_t new_pool(int device = 0) {
  const cudaMemPoolProps properties = on_device(device);
  cudaMemPool_t pool = nullptr;
  ok(cudaMemPoolCreate(&pool, &properties));
  return pool;
}
uint64_t attribute(cudaMemPool_t pool, cudaMemPoolAttr which) {
  uint64_t value = ~uint64_t{0};
  ok(cudaMemPoolGetAttribute(pool, which, &value));
  return value;
}
void expect(cudaMemPool_t pool, uint64_t used, uint64_t reserved) {
  check(attribute(pool, cudaMemPoolAttrUsedMemCurrent) == used, "bytes of a pool in use");
  check(attribute(pool, cudaMemPoolAttrReservedMemCurrent) == reserved, "bytes that a pool holds");
}

void pools_count() {
  int supported = 0;
  ok(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, 0));
  check(supported == 1, "there are pools");
  const Stream stream;
  const cudaMemPool_t pool = new_pool();
  check(emulation::live_pools() == 1, "a live pool");
  char* a = nullptr;
  float* b = nullptr;
  ok(cudaMallocFromPoolAsync(&a, 13, pool, stream));
  ok(cudaMallocFromPoolAsync(&b, 400, pool, stream));
  expect(pool, 413, 413);
  check(emulation::live_allocations() == 2 && emulation::live_bytes() == 413, "exact sizes");
  ok(cudaMemsetAsync(b, 0, 400, stream));
  ok(cudaFreeAsync(a, stream));
  ok(cudaFreeAsync(b, stream));
  uint64_t keep = 100;
  ok(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
  check(attribute(pool, cudaMemPoolAttrReleaseThreshold) == 100, "the threshold");
  ok(cudaStreamSynchronize(stream));
  expect(pool, 0, 100);  // a synchronisation releases what is above the threshold
  ok(cudaMemPoolTrimTo(pool, 200));
  expect(pool, 0, 100);
  ok(cudaMemPoolTrimTo(pool, 10));
  expect(pool, 0, 10);
  check(attribute(pool, cudaMemPoolAttrUsedMemHigh) == 413, "the most in use");
  keep = 0;
  ok(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &keep));
  check(attribute(pool, cudaMemPoolAttrUsedMemHigh) == 0, "since it was reset");
  ok(cudaMemPoolTrimTo(pool, 0));
  ok(cudaMallocFromPoolAsync(&a, 8, pool, stream));
  ok(cudaFree(a));
  ok(cudaMallocFromPoolAsync(&a, 0, pool, stream));
  check(a == nullptr, "nothing for nothing");
  emulation::fail_allocation(1);
  check(cudaMallocFromPoolAsync(&a, 8, pool, stream) == cudaErrorMemoryAllocation && a == nullptr, "a failure");
  emulation::fail_allocation(0);
  cudaGetLastError();
  expect(pool, 0, 8);
  ok(cudaMemPoolDestroy(pool));
  check(emulation::live_pools() == 0, "no pool left");
}

void kept_memory_is_out_of_reach() {
  emulation::set_trait(emulation::Trait::kMemory, emulation::live_bytes() + 1000);
  const Stream stream;
  const cudaMemPool_t pool = new_pool();
  const cudaMemPool_t other = new_pool();
  uint64_t keep = UINT64_MAX;
  ok(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
  char* a = nullptr;
  ok(cudaMallocFromPoolAsync(&a, 600, pool, stream));
  ok(cudaFreeAsync(a, stream));
  ok(cudaStreamSynchronize(stream));
  expect(pool, 0, 600);
  size_t free_bytes = 0;
  size_t total = 0;
  ok(cudaMemGetInfo(&free_bytes, &total));
  check(free_bytes == 400, "free memory");
  check(cudaMallocFromPoolAsync(&a, 500, other, stream) == cudaErrorMemoryAllocation, "of another pool");
  check(cudaMalloc(&a, 500) == cudaErrorMemoryAllocation, "of nobody's");
  cudaGetLastError();
  ok(cudaMallocFromPoolAsync(&a, 500, pool, stream));
  ok(cudaFreeAsync(a, stream));
  ok(cudaStreamSynchronize(stream));
  ok(cudaMemPoolTrimTo(pool, 0));
  ok(cudaMallocFromPoolAsync(&a, 500, other, stream));
  ok(cudaFreeAsync(a, stream));
  ok(cudaMemPoolDestroy(pool));
  ok(cudaMemPoolDestroy(other));
  emulation::set_trait(emulation::Trait::kMemory, -1);
}

void pools_are_on_their_device() {
  emulation::set_device_count(2);
  const Stream stream;  // of device 0
  const cudaMemPool_t pool = new_pool(1);
  int* pointer = nullptr;
  ok(cudaMallocFromPoolAsync(&pointer, 4, pool, stream));
  cudaPointerAttributes attributes;
  ok(cudaPointerGetAttributes(&attributes, pointer));
  check(attributes.type == cudaMemoryTypeDevice && attributes.device == 1, "memory of the pool's device");
  ok(cudaFreeAsync(pointer, stream));
  ok(cudaMemPoolDestroy(pool));
  ok(cudaStreamSynchronize(stream));
  emulation::set_device_count(1);
}

void destroyed_pools_wait_for_their_memory() {
  Refusals refused;
  const Stream stream;
  const cudaMemPool_t pool = new_pool();
  int* pointer = nullptr;
  ok(cudaMallocFromPoolAsync(&pointer, 4, pool, stream));
  ok(cudaMemPoolDestroy(pool));
  check(emulation::live_pools() == 1, "a destroyed pool that still has memory out");
  uint64_t value = 0;
  int* another = nullptr;
  refused(cudaMallocFromPoolAsync(&another, 4, pool, stream), cudaErrorInvalidValue);
  refused(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &value), cudaErrorInvalidValue);
  refused(cudaMemPoolTrimTo(pool, 0), cudaErrorInvalidValue);
  refused(cudaMemPoolDestroy(pool), cudaErrorInvalidValue);
  const int seven = 7;
  int back = 0;
  ok(cudaMemcpy(pointer, &seven, 4, cudaMemcpyHostToDevice));
  ok(cudaMemcpy(&back, pointer, 4, cudaMemcpyDeviceToHost));
  check(back == 7, "the memory outlives the handle");
  ok(cudaFreeAsync(pointer, stream));
  refused(cudaFreeAsync(pointer, stream), cudaErrorInvalidValue);
  refused(cudaFree(pointer), cudaErrorInvalidValue);
  ok(cudaStreamSynchronize(stream));
  check(emulation::live_pools() == 0, "the pool went with the last of it");
  refused(cudaMallocFromPoolAsync(&another, 4, pool, stream), cudaErrorInvalidValue);
  refused.end();
}

void bad_pools_are_refused() {
  Refusals refused;
  const auto create = [&](auto change) {
    cudaMemPoolProps properties = on_device(0);
    change(properties);
    cudaMemPool_t pool = nullptr;
    refused(cudaMemPoolCreate(&pool, &properties), cudaErrorInvalidValue);
  };
  create([](cudaMemPoolProps& p) { p.allocType = cudaMemAllocationTypeInvalid; });
  create([](cudaMemPoolProps& p) { p.location.type = cudaMemLocationTypeInvalid; });
  create([](cudaMemPoolProps& p) { p.location.id = 1; });
  create([](cudaMemPoolProps& p) { p.reserved[53] = 1; });
  cudaMemPoolProps small = on_device(0);
  small.maxSize = 10;
  cudaMemPool_t pool = nullptr;
  ok(cudaMemPoolCreate(&pool, &small));
  void* pointer = nullptr;
  check(cudaMallocFromPoolAsync(&pointer, 11, pool, nullptr) == cudaErrorMemoryAllocation, "more than its maximum");
  cudaGetLastError();
  uint64_t value = 3;
  refused(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &value), cudaErrorInvalidValue);
  refused(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &value), cudaErrorInvalidValue);
  ok(cudaMemPoolDestroy(pool));
  refused.end();
  if (!kAsan) return;
  dies(
      [] {
        char* memory = nullptr;
        ok(cudaMallocFromPoolAsync(&memory, 13, new_pool(), nullptr));
        memory[0] = 1;
      },
      {"AddressSanitizer: use-after-poison"});
}

}  // namespace

void pools() {
  pools_count();
  kept_memory_is_out_of_reach();
  pools_are_on_their_device();
  destroyed_pools_wait_for_their_memory();
  bad_pools_are_refused();
}

}  // namespace rlvr::emulation_test
