// The device's memory, as tracked for allocations, copies and pools. Internal; the mutex is held.
#pragma once

#include <utility>
#include <vector>

#include "emulation/runtime_state.h"

namespace rlvr::emulation::detail {

struct Allocation {
  uint64_t bytes;
  int device;
  bool pinned = false;
  bool stream_ordered = false;  // from cudaMallocAsync or a pool: cudaFree waits for nobody
  cudaMemPool_t pool = nullptr;
  std::vector<std::pair<uint64_t, uint64_t>> gaps = {};  // begin and bytes: nobody's
  bool freed = false;  // by a free that waits on its stream: gone for every call from now on, not for earlier work
};

inline uint64_t address_of(const volatile void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

// The allocation that an address lies in, or ends.
const std::pair<const uint64_t, Allocation>* find_allocation(uint64_t address);

// A part of a device allocation, widened to ASan's granules of 8 bytes but never past the allocation's end.
struct Part {
  uint64_t begin;
  uint64_t bytes;
};
Part granules(uint64_t address, uint64_t bytes);
// Under ASan only kernels and runtime calls may touch device memory.
void open(Part part);
void close(Part part);
void open_device_memory();
void close_device_memory();

// Of a pointer that a kernel gets as an argument: null, or in device or pinned memory. What a free that waits will take
// is fit for a kernel that runs before it, but not for a new launch.
bool usable_in_kernel(uint64_t address, bool running);

}  // namespace rlvr::emulation::detail
