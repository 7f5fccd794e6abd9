// A launch, for the code that asks for it and the code that runs it.
#pragma once

#include <memory>

#include "emulation/runtime_api.h"
#include "emulation/translations.h"

namespace rlvr::emulation::detail {

struct Launch {
  const void* kernel;
  dim3 grid;
  dim3 block;
  cudaStream_t stream;
  void (*run_thread)(const Launch& launch);
  void (*check_arguments)(const Launch& launch, bool running);
  const Translation* translation;  // runs instead of the kernel, or null
  std::shared_ptr<const void> arguments;  // by value: the launch may run later, and in a graph more than once
};

}  // namespace rlvr::emulation::detail
