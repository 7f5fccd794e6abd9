#include "cpu/diagnostics.h"

#include <atomic>
#include <cstring>
#include <new>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "cpu/products.h"
#include "cpu/thread_pool.h"
#include "cpu/token_log_probs_simd.h"

namespace rlvr::cpu {
namespace {

constexpr double kNanosecondsPerByte = kBlockNanoseconds / (1 << 18);  // so that a block is 256 KiB

// The xor of the 64-bit words: independent accumulators keep several loads in flight.
uint64_t xor_words(const unsigned char* source, int64_t bytes) {
  uint64_t sums[16] = {};
  int64_t i = 0;
  for (; i + static_cast<int64_t>(sizeof(sums)) <= bytes; i += static_cast<int64_t>(sizeof(sums))) {
    uint64_t words[16];
    std::memcpy(words, source + i, sizeof(words));
    for (int k = 0; k < 16; ++k) sums[k] ^= words[k];
  }
  uint64_t sum = 0;
  for (uint64_t s : sums) sum ^= s;
  for (; i < bytes; ++i) sum ^= source[i];
  return sum;
}

// With non-temporal stores, where the instruction set has them: the lines that are overwritten are not read.
void copy_streaming(const unsigned char* from, unsigned char* to, int64_t bytes) {
#ifdef __SSE2__
  while (bytes > 0 && reinterpret_cast<uintptr_t>(to) % 16 != 0) {
    *to++ = *from++;
    --bytes;
  }
  for (; bytes >= 64; bytes -= 64, from += 64, to += 64) {
    const auto* source = reinterpret_cast<const __m128i*>(from);
    auto* destination = reinterpret_cast<__m128i*>(to);
    const __m128i a = _mm_loadu_si128(source);
    const __m128i b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2);
    const __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(destination, a);
    _mm_stream_si128(destination + 1, b);
    _mm_stream_si128(destination + 2, c);
    _mm_stream_si128(destination + 3, d);
  }
  _mm_sfence();
#endif
  std::memmove(to, from, static_cast<size_t>(bytes));
}

}  // namespace

void simd_exp(const float* x, float* out, int64_t count) { token_log_probs_rows().exp(x, out, count); }

uint64_t read_memory(const void* source, int64_t bytes) {
  std::atomic<uint64_t> sum{0};
  const auto* data = static_cast<const unsigned char*>(source);
  parallel_for(bytes, kNanosecondsPerByte,
               [&](int64_t begin, int64_t end) { sum ^= xor_words(data + begin, end - begin); });
  return sum;
}

void copy_memory(const void* source, void* destination, int64_t bytes) {
  const auto* from = static_cast<const unsigned char*>(source);
  auto* to = static_cast<unsigned char*>(destination);
  parallel_for(bytes, kNanosecondsPerByte, [&](int64_t begin, int64_t end) {
    std::memmove(to + begin, from + begin, static_cast<size_t>(end - begin));
  });
}

void stream_memory(const void* source, void* destination, int64_t bytes) {
  const auto* from = static_cast<const unsigned char*>(source);
  auto* to = static_cast<unsigned char*>(destination);
  parallel_for(bytes, kNanosecondsPerByte,
               [&](int64_t begin, int64_t end) { copy_streaming(from + begin, to + begin, end - begin); });
}

double multiply_add(int64_t steps) {
  constexpr double kStepNanoseconds = 0.5;  // less than it takes: a block is long enough for its start not to count
  const LinearKernels& kernels = linear_kernels();
  parallel_for(steps, kStepNanoseconds, [&](int64_t first, int64_t last) { kernels.multiply_add(last - first); });
  return 2.0 * kernels.multiply_add_lanes * static_cast<double>(steps);
}

bool matrix_product(const MatrixProduct& op) {
  if (op.rows == 0 || op.columns == 0) return true;
  const bool along = op.right_transposed;
  const int64_t tiled = along ? op.columns : op.depth;
  const int64_t tile = tile_columns(along ? op.depth : op.columns);
  const InputMatrix right{op.right, DType::kF32, along ? op.depth : op.columns};
  const int64_t left_stride = op.left_transposed ? op.rows : op.depth;
  try {
    Packed packed;
    for (int64_t begin = 0; begin == 0 || begin < tiled; begin += tile) {
      const int64_t count = std::min(tile, tiled - begin);
      const int64_t from = along ? 0 : begin;
      if (along)
        packed.pack({right, nullptr}, true, begin, count, 0, op.depth);
      else
        packed.pack({right, nullptr}, false, 0, op.columns, begin, count);
      const float* left = op.left + (op.left_transposed ? from * left_stride : from);
      for_blocks(op.rows, nullptr, [&](int64_t first, int64_t rows) {
        float* out = op.out + first * op.columns + (along ? begin : 0);
        multiply_block({{left, DType::kF32, left_stride}, nullptr}, !op.left_transposed, first, rows, packed, from > 0,
                       out, op.columns);
      });
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

}  // namespace rlvr::cpu
