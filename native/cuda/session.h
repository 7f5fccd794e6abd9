// The device side of one call of the package: device copies ("mirrors") of the host arrays that its kernels read and
// write. An array that a kernel reads is uploaded once, at its first use; what kernels write stays on the device, for
// the kernels after them, until it is asked for. Everything is only enqueued on the context's stream; wait() alone
// blocks. The first error is kept and makes the rest do nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/device_context.h"
#include "cuda/transfer.h"

namespace rlvr::cuda {

// [rows, width] elements of `size` bytes in host memory, row r at element r * stride.
struct HostMatrix {
  void* data;
  int64_t rows;
  int64_t width;
  int64_t stride;
  int64_t size;
};

class Session {
 public:
  explicit Session(std::shared_ptr<DeviceContext> context);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  DeviceContext& context() const { return *context_; }

  // The mirror of an array that a kernel will read (`read`), write, or both. Never null, even for no bytes.
  void* mirror(void* host, int64_t bytes, bool read);
  // As mirror(), of a matrix, without its padding: upload() fills it.
  void* mirror(const HostMatrix& host);
  bool has(const void* host) const { return find(host, -1) != nullptr; }
  // Copies a mirrored matrix to the device. Blocks, for as long as the host memory is read; for any thread.
  cudaError_t upload(const HostMatrix& host);

  // Sends what the kernel about to run needs, then runs it.
  template <class Op>
  cudaError_t run(const Op& op, cudaError_t (*kernel)(const Op&, cudaStream_t)) {
    const DeviceScope scope(context_->device());
    note(context_->ready());
    note(send());
    if (error_ == cudaSuccess) note(kernel(op, context_->stream()));
    return error_;
  }

  // Asks for the contents of a mirrored array; others are left as they are.
  void request(void* host, int64_t bytes);
  // Enqueues what was requested, as one copy, and marks the end.
  cudaError_t collect();
  // Waits for collect()'s mark, and copies requested matrices back. For any thread.
  cudaError_t wait();
  // Puts what was collected into the host arrays.
  void deliver();

 private:
  struct Mirror {
    void* host;
    int64_t bytes;      // on the device
    HostMatrix matrix;  // data null: an array
    void* device;
  };
  struct Delivery {
    void* host;
    int64_t bytes;
    int64_t offset;  // in the pinned block
  };

  const Mirror* find(const void* host, int64_t bytes) const;
  void* add(void* host, int64_t bytes, const HostMatrix& matrix);
  cudaError_t send();
  cudaError_t transfer_all(const std::vector<Transfer>& items);
  cudaError_t copy(const Mirror& mirror, cudaMemcpyKind kind);
  cudaError_t note(cudaError_t error);

  std::shared_ptr<DeviceContext> context_;
  std::vector<Mirror> mirrors_;
  std::vector<Mirror> unsent_;
  std::vector<Mirror> requested_;
  std::vector<Delivery> deliveries_;
  PinnedBlock* results_ = nullptr;
  Completion completion_;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace rlvr::cuda
