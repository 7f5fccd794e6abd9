// What the parts of the emulation share. Internal: kernels and tests include cuda_emulation.h.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "emulation/runtime_api.h"

#if defined(__SANITIZE_ADDRESS__)
#define RLVR_EMULATION_ASAN 1
#endif

namespace rlvr::emulation::detail {

// Held by a launch and by every call that touches memory or handles: the device does one thing at a time. Recursive,
// since a host function runs while it is held and may ask what lives.
std::recursive_mutex& device_mutex();

// Sets the calling thread's last error, as every runtime call does.
cudaError_t result(cudaError_t status);
// The same for a call that no correct program makes; counted.
cudaError_t misuse(cudaError_t status, const std::string& what);

bool inside_host_function();
void run_host_function(cudaHostFn_t function, void* data);
// An integer in the environment.
int setting(const char* name, int otherwise);

uint8_t fill_byte();
// Writes the fill byte past ASan: shared variables have redzones between them.
void fill(void* address, uint64_t bytes);

void fill_shared_variables();
// Of a function in this binary; empty if it has no symbol.
std::string mangled_name(const void* address);
// The same for messages, demangled.
std::string symbol_name(const void* address);

[[noreturn]] void die(const std::string& message);

}  // namespace rlvr::emulation::detail
