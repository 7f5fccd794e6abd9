// Streams of other libraries: what can be told of one, from nothing but its handle.
#pragma once

#include <string>

#include "cuda/runtime.h"

namespace rlvr::cuda {

// "name: what it means", or empty for success.
std::string describe(cudaError_t error);

enum class StreamState { kLive, kCapturing, kUnknown };

// Capturing: into a graph. Unknown: CUDA refuses the question, as for a stream that was destroyed.
StreamState stream_state(cudaStream_t stream);

// Records what is on a stream of the current device in a new event, which the caller destroys. Says why it cannot: the
// stream is of another device, being captured, or gone, as far as CUDA knows.
std::string record_stream(cudaStream_t stream, int device, cudaEvent_t& event);

}  // namespace rlvr::cuda
