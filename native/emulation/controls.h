// What tests may set and read. Each is defined next to what it controls.
#pragma once

#include <cstdint>
#include <string>

namespace rlvr::emulation {

// "forward", "reverse" or a number that seeds a random order; RLVR_EMULATION_ORDER sets the initial one.
void set_order(const std::string& order);
// The byte that new device memory and each block's shared memory hold; RLVR_EMULATION_FILL sets the initial one.
void set_fill(uint8_t byte);
// Whether work on a stream waits in the stream's queue until something waits for it (streams.h says what does);
// RLVR_EMULATION_ASYNC=1 sets it initially. Turning it off runs what waits.
void set_async(bool async);

// Device and pinned host memory that was allocated and not yet freed (a free that waits on a stream has not happened).
int64_t live_allocations();
int64_t live_bytes();
int64_t live_streams();
int64_t live_events();
int64_t live_graphs();  // and executable ones
int64_t live_pools();   // not destroyed, or destroyed but with memory that is not freed

// A part of device memory that kernels must not touch, as long as its allocation lives; under ASan, and up to a multiple
// of 8 bytes.
void watch_gap(void* begin, int64_t bytes);

// The n-th allocation from now, and all after it, fail with cudaErrorMemoryAllocation (1: the next); 0 ends that.
void fail_allocation(int64_t n);
// The n-th record of an event from now fails with cudaErrorUnknown (1: the next), and does nothing; 0 ends that.
void fail_record(int64_t n);
// 0 to 8 devices (RLVR_EMULATION_DEVICES, 1 by default); with 0 the runtime answers cudaErrorNoDevice.
void set_device_count(int count);
// What else can differ between machines. Negative: as by default.
enum class Trait {
  kDriver,      // CUDA version of the driver; RLVR_EMULATION_DRIVER
  kPools,       // whether devices have memory pools; RLVR_EMULATION_POOLS
  kImages,      // whether the binary has kernels for these devices; RLVR_EMULATION_IMAGES
  kMaxPitch,    // bytes from row to row of a 2-D copy, at most
  kMemory,      // bytes of all devices together
  kProcessors,  // multiprocessors of each device
};
constexpr int kTraits = 6;
void set_trait(Trait which, int64_t value);
// Whether a device has a primary context: some call has needed one, or made the device current (as CUDA does since 12).
bool has_context(int device);

// What was asked of all streams so far.
struct Operations {
  int64_t launches;
  int64_t blocks;  // of these
  int64_t copies;  // 2-D ones too
  int64_t copies_2d;
  int64_t memsets;
  int64_t allocations;  // in stream order
  int64_t frees;
};
Operations operations();

// Calls that a correct program never makes: foreign or double frees, copies that leave their allocation, wrong kinds of
// pointer, dead handles. They return an error as CUDA does, and count here.
int64_t misuse_count();
std::string last_misuse();

}  // namespace rlvr::emulation
