// Memory pools. Each allocation from a pool is separate, so that ASan sees its end; what a pool "reserves" is a
// number: the most that was in use since the last synchronisation or trim, down to the release threshold. A pool only
// keeps numbers, and knows nothing of memory. Internal; the mutex is held.
#pragma once

#include "emulation/runtime_state.h"

struct CUmemPoolHandle_st {
  int device;
  uint64_t most;  // bytes; 0: no limit
  uint64_t threshold = 0;
  uint64_t used = 0;
  uint64_t used_high = 0;
  uint64_t reserved = 0;
  uint64_t reserved_high = 0;
  int64_t allocations = 0;
  int reuse[3] = {1, 1, 1};
  bool destroyed = false;
};

namespace rlvr::emulation::detail {

// What every call on a pool checks first.
cudaError_t admit_pool(cudaMemPool_t pool, const char* what);

// Memory of the pool, allocated and freed.
void pool_took(cudaMemPool_t pool, uint64_t bytes);
void pool_got_back(cudaMemPool_t pool, uint64_t bytes);
// As every synchronisation does: pools keep no more than their release threshold.
void release_cached_memory();
uint64_t cached_bytes();

}  // namespace rlvr::emulation::detail
