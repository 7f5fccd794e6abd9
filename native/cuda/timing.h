// How long enqueued work takes on the device, for the benchmark.
#pragma once

#include <functional>

#include "cuda/device_context.h"

namespace rlvr::cuda {

// Milliseconds per call of `enqueue`, of `repeats` calls in a row, by events around them; as a graph, captured once and
// replayed, so that no launch waits for the host. Waits for the device. `enqueue` runs once before, untimed.
cudaError_t time_on_device(DeviceContext& context, int repeats, bool as_graph,
                           const std::function<cudaError_t()>& enqueue, double& milliseconds);

}  // namespace rlvr::cuda
