// Which rows have no finite gradient: the first is kept. Those that could only be written wrong are looked for in a
// phase, before any row is written.
#pragma once

#include "cuda/phases.h"
#include "cuda/platform.h"

namespace rlvr::cuda {
namespace {

// -1 as unsigned is the largest number: no row yet.
__device__ inline void lower(int32_t* row, int64_t t) {
  atomicMin(reinterpret_cast<unsigned*>(row), static_cast<unsigned>(t));
}

__device__ inline void run_phase(const UpstreamCheck& phase) {
  const TokenRowsBackward& op = phase.op;
  if (op.halt != nullptr && op.halt[0] != 0) return;
  for (int64_t t = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; t < op.tokens; t += int64_t{gridDim.x} * blockDim.x)
    if (upstream_overflows(op, t)) lower(&op.bad_rows[0], t);
}

}  // namespace
}  // namespace rlvr::cuda
