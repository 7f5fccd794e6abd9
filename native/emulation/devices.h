// The emulated machine: its devices, their driver, and which of them have a primary context. Internal.
#pragma once

#include <cstdint>

#include "emulation/controls.h"
#include "emulation/runtime_api.h"

namespace rlvr::emulation::detail {

int current_device();
int device_count();
// Whether the runtime works at all: there are devices, and a driver that is new enough.
cudaError_t driver_status();
int64_t trait(Trait which);
// For every call that needs a context: makes the current device's primary context, as such a call does in CUDA.
cudaError_t enter_context();
// The same for a call on an object of that device.
void use_context(int device);

}  // namespace rlvr::emulation::detail
