// What CUDA finds on this machine.
#pragma once

#include <cstdint>
#include <string>

namespace rlvr::cuda {

struct DeviceInfo {
  std::string reason;  // why there is no usable device; empty when there is one
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  int64_t memory = 0;  // bytes
  int driver = 0;      // CUDA version of the driver: 1000 * major + 10 * minor
  int runtime = 0;     // CUDA version this was built with
  int count = 0;       // devices in this machine
};

// Looks for a driver, and begins to use the device (its context stays), so it is called only on demand.
DeviceInfo probe_device(int index);

}  // namespace rlvr::cuda
