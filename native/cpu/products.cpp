#include "cpu/products.h"

#include "cpu/huge_pages.h"
#include "cpu/simd_table.h"

namespace rlvr {
namespace {

constexpr double kPackNanoseconds = 4000;
constexpr int64_t kFewRows = 16;
static_assert(kDepth % kFewRows == 0);

}  // namespace

const LinearKernels& linear_kernels() { return RLVR_SIMD_TABLE(linear_kernels); }

float* Floats::allocate(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  void* memory = ::operator new(bytes, kAlignment);
  cpu::prefer_huge_pages(memory, static_cast<int64_t>(bytes));
  return static_cast<float*>(memory);
}

void Packed::pack(const PanelSource& source, bool along, int64_t begin, int64_t count, int64_t from, int64_t depth) {
  const PanelPacking& right = linear_kernels().right;
  count_ = count;
  depth_ = depth;
  padded_ = rounded_up(count, right.size);
  const int64_t panels = padded_ / right.size;
  float* out = memory_.resized(padded_ * depth);  // these panels are whole vectors: no overhang
  data_ = out;
  // Indices [k, k + few) of the sum, of a block of them, in the panels of columns [at, at + some).
  const auto pack = [&](int64_t k, int64_t few, int64_t at, int64_t some) {
    const int64_t block = k / kDepth * kDepth;
    const int64_t panel_depth = std::min(kDepth, depth - block);
    float* to = out + block * padded_ + at * panel_depth + (k - block) * right.size;
    (along ? right.along : right.across)(source, {begin + at, some, from + k, few, panel_depth}, to);
  };
  // What a thread packs at a time lies together in the source.
  if (along) {
    parallel_for(panels, kPackNanoseconds, [&](int64_t first, int64_t last) {
      for (int64_t i = first * right.size; i < std::min(last * right.size, count); i += right.size)
        for (int64_t k = 0; k < depth; k += kDepth)
          pack(k, std::min(kDepth, depth - k), i, std::min<int64_t>(right.size, count - i));
    });
  } else {
    parallel_for(rounded_up(depth, kFewRows) / kFewRows, kPackNanoseconds, [&](int64_t first, int64_t last) {
      for (int64_t k = first * kFewRows; k < std::min(last * kFewRows, depth); k += kFewRows)
        pack(k, std::min(kFewRows, depth - k), 0, count);
    });
  }
}

void multiply_block(const PanelSource& left, bool along, int64_t begin, int64_t rows, const Packed& right, bool add,
                    float* out, int64_t stride) {
  thread_local Floats memory;
  const LinearKernels& kernels = linear_kernels();
  const auto pack = along ? kernels.left.along : kernels.left.across;
  float* panels = memory.resized(rounded_up(rows, kernels.left.size) * kDepth + kernels.left.overhang);
  for (int64_t k = 0; k == 0 || k < right.depth(); k += kDepth) {
    const int64_t depth = std::min(kDepth, right.depth() - k);
    pack(left, {begin, rows, k, depth, depth}, panels);
    kernels.multiply(panels, rows, right.block(k), right.count(), depth, add || k > 0, out, stride);
  }
}

}  // namespace rlvr
