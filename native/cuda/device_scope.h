// Which device is current. Since CUDA 12, making one current creates its primary context, hundreds of megabytes on that
// device, and so would a careless return to the device that was current before.
#pragma once

namespace rlvr::cuda {

// Makes a device the calling thread's current one, for a scope. Afterwards the device before it is current again if it
// has a context. If it has none, nobody has used it; the thread then stays where it is, rather than create one.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int previous_ = -1;  // to return to, or -1
};

}  // namespace rlvr::cuda
