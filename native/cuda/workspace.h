// Device memory of an op while it enqueues its work: taken from the context's pool, and given back in the stream's
// order, so that what was enqueued may still use it.
#pragma once

#include <vector>

#include "cuda/device_context.h"

namespace rlvr::cuda {

class Workspace {
 public:
  explicit Workspace(DeviceContext& context) : context_(context) {}
  ~Workspace() {
    for (const Piece& piece : pieces_) context_.release(piece.memory, piece.bytes);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Uninitialised, at a multiple of 256 bytes. Null after an error, which error() keeps.
  template <class T>
  T* take(int64_t count) {
    const int64_t bytes = count * int64_t{sizeof(T)};
    void* memory = nullptr;
    if (error_ == cudaSuccess) error_ = context_.allocate(memory, bytes);
    if (error_ != cudaSuccess) return nullptr;
    pieces_.push_back({memory, bytes});
    return static_cast<T*>(memory);
  }

  cudaError_t error() const { return error_; }

 private:
  struct Piece {
    void* memory;
    int64_t bytes;
  };

  DeviceContext& context_;
  std::vector<Piece> pieces_;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace rlvr::cuda
