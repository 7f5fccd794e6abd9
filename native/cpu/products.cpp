#include "cpu/products.h"

#include "cpu/cpu_features.h"
#include "cpu/huge_pages.h"

namespace rlvr {
namespace {

constexpr double kPackNanoseconds = 4000;

}  // namespace

const LinearKernels& linear_kernels() {
#ifdef RLVR_HAVE_AVX2
  if (simd_level() == SimdLevel::kAvx512) return linear_kernels_avx512;
  if (simd_level() == SimdLevel::kAvx2) return linear_kernels_avx2;
#endif
#ifdef RLVR_HAVE_NEON
  if (simd_level() == SimdLevel::kNeon) return linear_kernels_neon;
#endif
  return linear_kernels_portable;
}

float* Floats::allocate(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  void* memory = ::operator new(bytes, kAlignment);
  cpu::prefer_huge_pages(memory, static_cast<int64_t>(bytes));
  return static_cast<float*>(memory);
}

void Packed::pack(const PanelSource& source, bool along, const PanelBlock& block) {
  const PanelPacking& right = linear_kernels().right;
  const auto pack = along ? right.along : right.across;
  count_ = block.count;
  depth_ = block.depth;
  padded_ = rounded_up(block.count, right.size);
  const int64_t panels = padded_ / right.size;
  float* out = memory_.resized(padded_ * block.depth);  // these panels are whole vectors: no overhang
  parallel_for(panels * rounded_up(block.depth, kDepth) / kDepth, kPackNanoseconds, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t from = i / panels * kDepth;
      const int64_t at = i % panels * right.size;
      const int64_t depth = std::min(kDepth, block.depth - from);
      const int64_t count = std::min<int64_t>(right.size, block.count - at);
      pack(source, {block.begin + at, count, block.from + from, depth}, out + from * padded_ + at * depth);
    }
  });
  data_ = out;
}

void multiply_block(const PanelSource& left, bool along, int64_t begin, int64_t rows, const Packed& right, bool add,
                    float* out, int64_t stride) {
  thread_local Floats memory;
  const LinearKernels& kernels = linear_kernels();
  const auto pack = along ? kernels.left.along : kernels.left.across;
  float* panels = memory.resized(rounded_up(rows, kernels.left.size) * kDepth + kernels.left.overhang);
  for (int64_t k = 0; k == 0 || k < right.depth(); k += kDepth) {
    const int64_t depth = std::min(kDepth, right.depth() - k);
    pack(left, {begin, rows, k, depth}, panels);
    kernels.multiply(panels, rows, right.block(k), right.count(), depth, add || k > 0, out, stride);
  }
}

}  // namespace rlvr
