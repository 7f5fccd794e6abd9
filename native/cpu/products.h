// Matrix products on all threads: the right factor is packed once, blocks of the left one's rows are handed to threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include "cpu/linear_log_probs_simd.h"
#include "cpu/thread_pool.h"
#include "ops/common.h"

namespace rlvr {

// Those of this process's instruction set.
const LinearKernels& linear_kernels();

constexpr int64_t kDepth = 256;     // products summed in registers: a panel of the right factor then stays in L1
constexpr int64_t kRowPanels = 20;  // panels of rows that a thread takes at a time, at most: they stay in L2
constexpr double kAlone = 1e9;      // for parallel_for: an index is worth a thread

// Columns of the logits at a time: the packed part of the weight is to stay in a cache that threads share.
// In WebAssembly those columns of the weight are also copied there.
inline int64_t tile_columns(int64_t width) {
#ifdef __wasm__
  return width <= 8192 ? 256 : 64;
#else
  return width <= 2048 ? 1024 : width <= 8192 ? 512 : 256;
#endif
}

inline int64_t rounded_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

// Memory to work in, at an address that vectors like.
class Floats {
 public:
  // At least `count` of them; what was in them is lost if there were fewer.
  float* resized(int64_t count) {
    if (count > count_) {
      count_ = 0;
      memory_.reset();
      memory_.reset(allocate(count));
      count_ = count;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Delete {
    void operator()(float* memory) const { ::operator delete(memory, kAlignment); }
  };

  static float* allocate(int64_t count);

  std::unique_ptr<float, Delete> memory_;
  int64_t count_ = 0;
};

// The right factor in panels, in blocks of kDepth indices of the sum. To keep a weight in panels between calls was tried (two
// cores, T = 512): it gained at most 15 %, nothing on one core, and takes two more copies of the weight, in float32.
class Packed {
 public:
  // `count` indices of the panels from `begin` on, `depth` of the sum from `from` on; on all threads. Along: the panels' indices
  // are rows of the source; else they are columns.
  void pack(const PanelSource& source, bool along, int64_t begin, int64_t count, int64_t from, int64_t depth);

  int64_t count() const { return count_; }
  int64_t depth() const { return depth_; }
  const float* block(int64_t from) const { return data_ + from * padded_; }

 private:
  Floats memory_;
  const float* data_ = nullptr;
  int64_t count_ = 0;
  int64_t depth_ = 0;
  int64_t padded_ = 0;
};

// out[rows, right.count()] = left . right, on this thread; add: that is added to `out`. Along: rows [begin, begin + rows) of the
// source; else its columns.
void multiply_block(const PanelSource& left, bool along, int64_t begin, int64_t rows, const Packed& right, bool add,
                    float* out, int64_t stride);

// Blocks of rows, each on one thread: body(begin, count). Of panels as even as can be, and as many blocks for each thread.
template <class Body>
void for_blocks(int64_t count, CancelFlag cancel, Body body) {
  const int64_t size = linear_kernels().left.size;
  const int64_t panels = rounded_up(count, size) / size;
  const int64_t fewest = rounded_up(panels, kRowPanels) / kRowPanels;
  const int64_t blocks = std::min(rounded_up(fewest, thread_count()), panels);
  const auto start = [&](int64_t block) { return std::min(block * panels / blocks * size, count); };
  parallel_for(blocks, kAlone, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last && !cancelled(cancel); ++i) body(start(i), start(i + 1) - start(i));
  });
}

}  // namespace rlvr
