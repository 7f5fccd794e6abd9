#include "emulation/pools.h"

#include <algorithm>
#include <set>

#include "emulation/controls.h"
#include "emulation/devices.h"

namespace rlvr::emulation {
namespace {

using detail::admit_pool;
using detail::device_mutex;
using detail::misuse;
using detail::result;

std::set<cudaMemPool_t>& pools() {
  static auto* const instance = new std::set<cudaMemPool_t>;
  return *instance;
}

void keep_at_most(CUmemPoolHandle_st& pool, uint64_t bytes) {
  pool.reserved = std::max(pool.used, std::min(pool.reserved, bytes));
}

const char* refusal(const cudaMemPoolProps& properties) {
  if (properties.allocType != cudaMemAllocationTypePinned) return "a memory pool whose allocations are not pinned";
  if (properties.handleTypes != cudaMemHandleTypeNone && properties.handleTypes != cudaMemHandleTypePosixFileDescriptor)
    return "a memory pool with unknown handles";
  if (properties.location.type != cudaMemLocationTypeDevice) return "a memory pool that is not on a device";
  if (properties.location.id < 0 || properties.location.id >= detail::device_count())
    return "a memory pool on a device that does not exist";
  const auto is_zero = [](unsigned char byte) { return byte == 0; };
  if (properties.win32SecurityAttributes != nullptr || properties.usage != 0 ||
      !std::all_of(std::begin(properties.reserved), std::end(properties.reserved), is_zero))
    return "properties of a memory pool that must be zero";
  return nullptr;
}

}  // namespace

cudaError_t detail::admit_pool(cudaMemPool_t pool, const char* what) {
  if (inside_host_function()) return misuse(cudaErrorNotPermitted, std::string(what) + " in a host function");
  if (pools().count(pool) != 0 && !pool->destroyed) return cudaSuccess;
  return misuse(cudaErrorInvalidValue, std::string(what) + " of a dead memory pool");
}

void detail::pool_took(cudaMemPool_t pool, uint64_t bytes) {
  ++pool->allocations;
  pool->used += bytes;
  pool->used_high = std::max(pool->used_high, pool->used);
  pool->reserved = std::max(pool->reserved, pool->used);
  pool->reserved_high = std::max(pool->reserved_high, pool->reserved);
}
void detail::pool_got_back(cudaMemPool_t pool, uint64_t bytes) {
  pool->used -= bytes;
  if (--pool->allocations != 0 || !pool->destroyed) return;
  pools().erase(pool);
  delete pool;
}
void detail::release_cached_memory() {
  for (const cudaMemPool_t pool : pools()) keep_at_most(*pool, pool->threshold);
}
uint64_t detail::cached_bytes() {
  uint64_t bytes = 0;
  for (const cudaMemPool_t pool : pools()) bytes += pool->reserved - pool->used;
  return bytes;
}

int64_t live_pools() {
  const std::lock_guard lock(device_mutex());
  return static_cast<int64_t>(pools().size());
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  if (detail::inside_host_function()) return misuse(cudaErrorNotPermitted, "a new memory pool in a host function");
  if (const cudaError_t status = detail::enter_context(); status != cudaSuccess) return status;
  const std::lock_guard lock(device_mutex());
  if (pool == nullptr || properties == nullptr) return misuse(cudaErrorInvalidValue, "memory pool from or into null");
  if (detail::trait(Trait::kPools) == 0) return result(cudaErrorNotSupported);
  if (const char* reason = refusal(*properties)) return misuse(cudaErrorInvalidValue, reason);
  *pool = new CUmemPoolHandle_st{properties->location.id, properties->maxSize};
  pools().insert(*pool);
  return result(cudaSuccess);
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  const std::lock_guard lock(device_mutex());
  if (const cudaError_t status = admit_pool(pool, "destruction"); status != cudaSuccess) return status;
  pool->destroyed = true;
  keep_at_most(*pool, 0);
  pool->threshold = 0;
  if (pool->allocations != 0) return result(cudaSuccess);  // the last one to be freed takes it along
  pools().erase(pool);
  delete pool;
  return result(cudaSuccess);
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  const std::lock_guard lock(device_mutex());
  if (const cudaError_t status = admit_pool(pool, "attribute"); status != cudaSuccess) return status;
  if (value == nullptr) return misuse(cudaErrorInvalidValue, "attribute of a memory pool from a null pointer");
  const auto reset = [&](uint64_t& high, uint64_t current) {
    if (*static_cast<const uint64_t*>(value) != 0)
      return misuse(cudaErrorInvalidValue, "a high watermark is only ever set to zero");
    high = current;
    return result(cudaSuccess);
  };
  switch (attribute) {
    case cudaMemPoolReuseFollowEventDependencies:
    case cudaMemPoolReuseAllowOpportunistic:
    case cudaMemPoolReuseAllowInternalDependencies:
      pool->reuse[attribute - cudaMemPoolReuseFollowEventDependencies] = *static_cast<const int*>(value);
      return result(cudaSuccess);
    case cudaMemPoolAttrReleaseThreshold:
      pool->threshold = *static_cast<const uint64_t*>(value);
      return result(cudaSuccess);
    case cudaMemPoolAttrReservedMemHigh:
      return reset(pool->reserved_high, pool->reserved);
    case cudaMemPoolAttrUsedMemHigh:
      return reset(pool->used_high, pool->used);
    default:
      return misuse(cudaErrorInvalidValue, "an attribute of memory pools that nobody sets");
  }
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  const std::lock_guard lock(device_mutex());
  if (const cudaError_t status = admit_pool(pool, "attribute"); status != cudaSuccess) return status;
  if (value == nullptr) return misuse(cudaErrorInvalidValue, "attribute of a memory pool into a null pointer");
  const auto answer = [&](uint64_t number) {
    *static_cast<uint64_t*>(value) = number;
    return result(cudaSuccess);
  };
  switch (attribute) {
    case cudaMemPoolReuseFollowEventDependencies:
    case cudaMemPoolReuseAllowOpportunistic:
    case cudaMemPoolReuseAllowInternalDependencies:
      *static_cast<int*>(value) = pool->reuse[attribute - cudaMemPoolReuseFollowEventDependencies];
      return result(cudaSuccess);
    case cudaMemPoolAttrReleaseThreshold:
      return answer(pool->threshold);
    case cudaMemPoolAttrReservedMemCurrent:
      return answer(pool->reserved);
    case cudaMemPoolAttrReservedMemHigh:
      return answer(pool->reserved_high);
    case cudaMemPoolAttrUsedMemCurrent:
      return answer(pool->used);
    case cudaMemPoolAttrUsedMemHigh:
      return answer(pool->used_high);
  }
  return misuse(cudaErrorInvalidValue, "an unknown attribute of memory pools");
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes_to_keep) {
  const std::lock_guard lock(device_mutex());
  if (const cudaError_t status = admit_pool(pool, "trim"); status != cudaSuccess) return status;
  keep_at_most(*pool, bytes_to_keep);
  return result(cudaSuccess);
}
