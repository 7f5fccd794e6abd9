// What the parts of the emulation share. Internal: kernels and tests include cuda_emulation.h.
#pragma once

#include <cstdint>
#include <mutex>

#include "cuda/emulation/launch.h"

#if defined(__SANITIZE_ADDRESS__)
#define RLVR_EMULATION_ASAN 1
#endif

namespace rlvr::emulation::detail {

// Held by a launch and by every call that touches memory or handles: the device does one thing at a time.
std::mutex& device_mutex();

// Sets the calling thread's last error, as every runtime call does.
cudaError_t result(cudaError_t status);
// The same for a call that no correct program makes; counted.
cudaError_t misuse(cudaError_t status, const char* what);

int current_device();
int device_count();
// A live handle of the current device, or a default stream. The mutex is held.
bool valid_stream(cudaStream_t stream);
bool inside_host_function();

uint8_t fill_byte();
// Writes the fill byte past ASan: shared variables have redzones between them.
void fill(void* address, uint64_t bytes);

// Under ASan only kernels and runtime calls may touch device memory. The mutex is held.
void open_device_memory();
void close_device_memory();
// Of a pointer that a kernel gets as an argument: null, or in device or pinned memory. The mutex is held.
bool usable_in_kernel(uint64_t address);

void fill_shared_variables();
// Of a function in this binary, demangled; for messages.
std::string symbol_name(const void* address);

[[noreturn]] void die(const std::string& message);

}  // namespace rlvr::emulation::detail
