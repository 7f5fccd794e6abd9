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

// Multiplies and adds in registers, `steps` times in all of them, on all threads: the yardstick of matrix products. Returns how
// many operations that were, a product and a sum counting as two.
double multiply_add(int64_t steps);

// out = left . right, as linear-log-probs multiplies, packing included.
struct MatrixProduct {
  const float* left;   // [rows, depth], or [depth, rows] if transposed
  const float* right;  // [depth, columns], or [columns, depth]
  bool left_transposed;
  bool right_transposed;
  int64_t rows;
  int64_t columns;
  int64_t depth;
  float* out;  // [rows, columns]
};
bool matrix_product(const MatrixProduct& op);  // false: there is no memory to work in

}  // namespace rlvr::cpu
