// What tests and benchmarks ask of the CPU backend besides the ops.
#pragma once

#include <cstdint>

namespace rlvr::cpu {

// out[i] = exp(x[i]) for x <= 0, by the instruction-set path in use.
void simd_exp(const float* x, float* out, int64_t count);

// Moves `bytes` once with the thread pool, as fast as plain loops can: the yardsticks of the benchmark.
// Reading returns a checksum so that it cannot be optimised away.
uint64_t read_memory(const void* source, int64_t bytes);
void copy_memory(const void* source, void* destination, int64_t bytes);
void stream_memory(const void* source, void* destination, int64_t bytes);  // with non-temporal stores

}  // namespace rlvr::cpu
