// The device side of one call of the package: device copies ("mirrors") of the host arrays that its kernels read and
// write. Arrays are announced first. Then place() takes one piece of memory for all of them and uploads, in one go,
// those that a kernel reads before one writes them; what kernels write stays on the device, for the kernels after them,
// until it is asked for. Everything is only enqueued on the context's stream; wait() alone blocks. The first error is
// kept and makes the rest do nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/device_context.h"
#include "cuda/phase_queue.h"
#include "cuda/transfer.h"

namespace rlvr::cuda {

// [rows, width] elements of `size` bytes in host memory, row r at element r * stride.
struct HostMatrix {
  void* data;
  int64_t rows;
  int64_t width;
  int64_t stride;
  int64_t size;
  bool operator==(const HostMatrix&) const = default;
};

class Session {
 public:
  explicit Session(std::shared_ptr<DeviceContext> context);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  DeviceContext& context() const { return *context_; }

  // Announces an array that a kernel will read (`read`), write, or both.
  void announce(const void* host, int64_t bytes, bool read);
  // Announces memory of a kernel's own, whose first `zeros` bytes are 0: known by its size and by an array of another.
  void announce_scratch(const void* host, int64_t bytes, int64_t zeros);
  // Makes the mirrors of what was announced since the last time.
  cudaError_t place();
  // The mirror of an array. Null for one that was not placed, but never for no bytes.
  void* mirror(const void* host, int64_t bytes) const;
  // The mirror of a matrix, without its padding, in memory of its own: upload() fills it. Null when there is none.
  void* mirror(const HostMatrix& host);
  bool has(const HostMatrix& host) const { return find_matrix(host) != nullptr; }
  // Copies a mirrored matrix to the device. Blocks, for as long as the host memory is read; for any thread.
  cudaError_t upload(const HostMatrix& host);

  // Enqueues a kernel on mirrors. A small one may wait for those that follow it.
  template <class Op>
  cudaError_t run(const Op& op, cudaError_t (*kernel)(const Op&, PhaseQueue&)) {
    const DeviceScope scope(context_->device());
    note(context_->ready());
    if (error_ == cudaSuccess) note(kernel(op, queue_));
    return error_;
  }
  // Enqueues those that wait.
  cudaError_t flush();

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
    const void* host;
    int64_t bytes;      // on the device
    HostMatrix matrix;  // data null: an array
    bool read;          // an array that is uploaded
    int64_t zeros;      // bytes, from the first, of one that is not
    void* device;       // null: announced
  };
  struct Piece {  // of device memory
    void* memory;
    int64_t bytes;
  };
  struct Delivery {
    void* host;
    int64_t bytes;
    int64_t offset;  // in the pinned block
  };

  const Mirror* find(const void* host, int64_t bytes) const;
  const Mirror* find_matrix(const HostMatrix& host) const;
  void* take(int64_t bytes);
  cudaError_t send(size_t first);
  cudaError_t transfer_all(const std::vector<Transfer>& items);
  cudaError_t copy(const Mirror& mirror, cudaMemcpyKind kind);
  cudaError_t note(cudaError_t error);

  std::shared_ptr<DeviceContext> context_;
  PhaseQueue queue_;
  std::vector<Piece> pieces_;
  std::vector<Mirror> mirrors_;
  size_t placed_ = 0;  // of them, from the first
  std::vector<Mirror> requested_;
  std::vector<Delivery> deliveries_;
  PinnedBlock* results_ = nullptr;
  Completion completion_;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace rlvr::cuda
