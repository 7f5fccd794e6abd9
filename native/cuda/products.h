// Matrix products by cuBLASLt: row-major, summed up in float32, the same bits on every run.
#pragma once

#include <memory>
#include <vector>

#include "cuda/cublaslt_library.h"
#include "ops/linear_log_probs.h"

namespace rlvr::cuda {

// out[rows, columns] = left[rows, depth] . right[depth, columns], or that added to what is there. A matrix that is
// transposed is in memory as [depth, rows], or [columns, depth]. Both have one element type.
struct Product {
  InputMatrix left;
  bool left_transposed;
  InputMatrix right;
  bool right_transposed;
  float* out;
  int64_t out_stride;
  bool add;
  int64_t rows;
  int64_t columns;
  int64_t depth;
};

// Products on a stream, in a workspace of theirs. Which algorithm a shape takes is found out once.
class Products {
 public:
  static constexpr int64_t kWorkspaceBytes = int64_t{1} << 25;

  // Device memory of kWorkspaceBytes, at a multiple of 256.
  Products(const lt::Library& library, cudaStream_t stream, void* workspace);
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  cudaError_t multiply(const Product& product);

 private:
  class Plan;

  cudaError_t plan_for(const Product& product, const Plan*& plan);

  const lt::Library& library_;
  cudaStream_t stream_;
  void* workspace_;
  std::vector<std::unique_ptr<Plan>> plans_;
};

}  // namespace rlvr::cuda
