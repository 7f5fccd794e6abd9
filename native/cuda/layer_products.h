// The products of a last layer for some rows at a time, whatever the types of its matrices.
//
// Where both have one type the weight stays where it is. Otherwise both are converted to float32: the hidden states
// with the rows, the weight in blocks, again for each product. So is float16 in a backward pass: gradients of logits
// are mostly too small for it. In float32 a sum over the vocabulary is one of sums over blocks of it, which round less.
#pragma once

#include <algorithm>

#include "cuda/linear_rows.h"
#include "cuda/products.h"
#include "cuda/workspace.h"

namespace rlvr::cuda {

class LayerProducts {
 public:
  // For up to `rows` rows at a time; kBackward: gradients too.
  enum class Pass { kForward, kBackward };
  LayerProducts(const LinearLogits& logits, Pass pass, int64_t rows, const lt::Library& library, Workspace& memory,
                cudaStream_t stream)
      : logits_(logits),
        type_(type_for(logits, pass)),
        converts_(logits.weight.dtype != type_),
        products_(library, stream, memory.take<char>(Products::kWorkspaceBytes)),
        stream_(stream) {
    hidden_stride_ = aligned(logits.width);
    hidden_ = memory.take<char>(rows * hidden_stride_ * size_of(type_));
    if (converts_) block_ = memory.take<float>(weight_rows() * hidden_stride_);
    // A gradient of float32 is multiplied as it is.
    if (pass == Pass::kBackward && type_ == DType::kBF16)
      gradient_ = memory.take<uint16_t>(rows * aligned(logits.vocab));
  }

  // From one row of logits to the next: each begins at a multiple of 256 bytes.
  static int64_t aligned(int64_t width) { return (width + kAlignment - 1) / kAlignment * kAlignment; }

  // Takes up rows [first, first + count), with zeros for those where `part` is 0.
  cudaError_t take_rows(int64_t first, int64_t count, const uint8_t* part) {
    const InputMatrix& from = logits_.hidden;
    const int64_t bytes = first * from.stride * size_of(from.dtype);
    count_ = count;
    return convert_rows({{static_cast<const char*>(from.data) + bytes, from.dtype, from.stride},
                         hidden_,
                         type_,
                         hidden_stride_,
                         count,
                         logits_.width,
                         part == nullptr ? nullptr : part + first},
                        stream_);
  }

  // out[count, V] = hidden . weight^T + bias
  cudaError_t logits(float* out, int64_t stride) {
    const bool biased = logits_.bias.data != nullptr;
    cudaError_t error = cudaSuccess;
    if (biased) {
      const InputMatrix row{logits_.bias.data, logits_.bias.dtype, 0};
      error = convert_rows({row, out, DType::kF32, stride, count_, logits_.vocab, nullptr}, stream_);
    }
    return for_blocks(error, weight_rows(), [&](int64_t begin, int64_t rows, const InputMatrix& weight) {
      return products_.multiply(
          {rows_taken(), false, weight, true, out + begin, stride, biased, count_, rows, logits_.width});
    });
  }

  // Takes up gradients [count, V] of the logits, of the rows taken up before.
  cudaError_t take_gradient(const float* gradient, int64_t stride) {
    of_logits_ = {gradient, DType::kF32, stride};
    if (gradient_ == nullptr) return cudaSuccess;
    of_logits_ = {gradient_, DType::kBF16, aligned(logits_.vocab)};
    return convert_rows(
        {{gradient, DType::kF32, stride}, gradient_, DType::kBF16, of_logits_.stride, count_, logits_.vocab, nullptr},
        stream_);
  }

  // out[count, d] = gradient . weight
  cudaError_t to_hidden(float* out) {
    const int64_t most = type_ == DType::kF32 ? std::min(kSummed, weight_rows()) : weight_rows();
    return for_blocks(cudaSuccess, most, [&](int64_t begin, int64_t rows, const InputMatrix& weight) {
      InputMatrix gradient = of_logits_;
      gradient.data = static_cast<const char*>(gradient.data) + begin * size_of(gradient.dtype);
      return products_.multiply(
          {gradient, false, weight, false, out, hidden_stride_, begin > 0, count_, logits_.width, rows});
    });
  }

  // out[V, d] = gradient^T . hidden, or that added to it
  cudaError_t to_weight(float* out, int64_t stride, bool add) {
    return products_.multiply(
        {of_logits_, true, rows_taken(), false, out, stride, add, logits_.vocab, logits_.width, count_});
  }

 private:
  static constexpr int64_t kAlignment = 64;                 // elements
  static constexpr int64_t kBlockBytes = int64_t{1} << 26;  // of converted weight
  static constexpr int64_t kSummed = int64_t{1} << 12;      // entries of a row in one sum

  static int64_t size_of(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

  static DType type_for(const LinearLogits& logits, Pass pass) {
    const DType type = logits.weight.dtype;
    const bool fits = type == logits.hidden.dtype && (pass == Pass::kForward || type != DType::kF16);
    return fits ? type : DType::kF32;
  }

  InputMatrix rows_taken() const { return {hidden_, type_, hidden_stride_}; }

  int64_t weight_rows() const {
    if (!converts_) return logits_.vocab;
    return std::clamp<int64_t>(kBlockBytes / (hidden_stride_ * 4), 1, logits_.vocab);
  }

  // Calls multiply(begin, rows, weight) for rows [begin, begin + rows) of the weight, `most` of them at a time.
  template <class Multiply>
  cudaError_t for_blocks(cudaError_t error, int64_t most, Multiply multiply) {
    const InputMatrix& from = logits_.weight;
    for (int64_t begin = 0; begin < logits_.vocab && error == cudaSuccess; begin += most) {
      const int64_t rows = std::min(most, logits_.vocab - begin);
      InputMatrix weight = from;
      weight.data = static_cast<const char*>(from.data) + begin * from.stride * size_of(from.dtype);
      if (converts_) {
        error = convert_rows({weight, block_, DType::kF32, hidden_stride_, rows, logits_.width, nullptr}, stream_);
        weight = {block_, DType::kF32, hidden_stride_};
      }
      if (error == cudaSuccess) error = multiply(begin, rows, weight);
    }
    return error;
  }

  const LinearLogits& logits_;
  DType type_;     // of what is multiplied
  bool converts_;  // the weight
  Products products_;
  cudaStream_t stream_;
  int64_t hidden_stride_ = 0;  // also of a converted weight, and of gradients of hidden states
  char* hidden_ = nullptr;
  float* block_ = nullptr;
  uint16_t* gradient_ = nullptr;
  int64_t count_ = 0;
  InputMatrix of_logits_{};
};

}  // namespace rlvr::cuda
