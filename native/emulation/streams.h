// Streams, the work that waits on them, and captures. Internal; the mutex is held wherever this is used.
//
// Work on a stream is appended to the stream's queue. Unless asynchrony is on, it runs at once. If it is on, it runs as
// late as CUDA allows: when something waits for it. What waits:
//   - cudaStreamSynchronize, cudaStreamDestroy and a copy from or to pageable memory, for the stream's work;
//   - cudaEventSynchronize, for the work before the event's record;
//   - cudaDeviceSynchronize, for the device's work;
//   - cudaMemcpy, cudaMemset, cudaFreeHost, and cudaFree of memory from cudaMalloc, for all work;
//   - work on a stream that waits for an event (cudaStreamWaitEvent), or that the default stream orders after other
//   work.
// Work of another library may have to wait for what happens elsewhere, such as another rank: it is asked again until it is
// ready, and whoever waits for it leaves the mutex to others meanwhile.
// cudaStreamQuery and cudaEventQuery run one item of the queue each, so that a polling loop terminates.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "emulation/controls.h"
#include "emulation/runtime_state.h"

namespace rlvr::emulation::detail {

using Work = std::function<void()>;

struct Item {
  Work work;
  std::function<bool()> ready = nullptr;  // null: at any time
};

struct Queue {
  std::deque<Item> waiting;
  uint64_t submitted = 0;
  uint64_t done = 0;
};

// The work on a queue up to some moment.
struct Mark {
  std::shared_ptr<Queue> queue;  // outlives its stream, for events
  uint64_t position = 0;
  bool reached() const { return queue == nullptr || queue->done >= position; }
};

struct Capture {
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  std::vector<Work> nodes;
  bool invalid = false;
};

}  // namespace rlvr::emulation::detail

struct CUstream_st {
  int device;
  bool is_default;
  bool blocking;  // in order with the default stream
  std::shared_ptr<rlvr::emulation::detail::Queue> queue = std::make_shared<rlvr::emulation::detail::Queue>();
  std::shared_ptr<rlvr::emulation::detail::Capture> capture = nullptr;
};

namespace rlvr::emulation::detail {

// What operations() reports.
Operations& counted();

// A live stream, the current device's default stream (of the device or of the thread), or null.
CUstream_st* find_stream(cudaStream_t handle);
// What every call that puts work on a stream, or waits for it, checks first.
cudaError_t admit(cudaStream_t handle, const char* what, CUstream_st** stream);
// Refuses a call on a capturing stream, which spoils the capture.
cudaError_t refuse_in_capture(CUstream_st& stream, cudaError_t status, const std::string& what);
// For calls that CUDA calls potentially unsafe (cudaMalloc, cudaEventQuery): whether a capture of this thread, or a
// global one of another, forbids them. Spoils the capture.
bool unsafe_in_capture();

// Runs the work now or later; a capturing stream records it.
void submit(CUstream_st& stream, Work work);
// As submit(), of work that runs once it is ready, which is asked each time that something would have it run.
void submit_when_ready(CUstream_st& stream, std::function<bool()> ready);
// Later work on the stream comes after the mark.
void submit_wait(CUstream_st& stream, const Mark& mark);
// Everything submitted so far.
Mark mark(CUstream_st& stream);
void drain(const Mark& mark);
void drain(CUstream_st& stream);
void drain_all();
// One item of a queue; false if it is not ready.
bool run_one(Queue& queue);

}  // namespace rlvr::emulation::detail
