#include "cpu/diagnostics.h"

#include <atomic>
#include <cstring>

#include "cpu/thread_pool.h"
#include "cpu/token_log_probs_simd.h"

namespace rlvr::cpu {
namespace {

constexpr int64_t kChunk = int64_t{1} << 18;  // bytes handed to a thread at a time

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

}  // namespace

void simd_exp(const float* x, float* out, int64_t count) { token_log_probs_rows().exp(x, out, count); }

uint64_t read_memory(const void* source, int64_t bytes) {
  std::atomic<uint64_t> sum{0};
  const auto* data = static_cast<const unsigned char*>(source);
  parallel_for(bytes, kChunk, [&](int64_t begin, int64_t end) { sum ^= xor_words(data + begin, end - begin); });
  return sum;
}

void copy_memory(const void* source, void* destination, int64_t bytes) {
  const auto* from = static_cast<const unsigned char*>(source);
  auto* to = static_cast<unsigned char*>(destination);
  parallel_for(bytes, kChunk, [&](int64_t begin, int64_t end) {
    std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
  });
}

}  // namespace rlvr::cpu
