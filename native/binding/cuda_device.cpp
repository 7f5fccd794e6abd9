// What the addon says of CUDA: cuda.info() in builds that have it.
#ifdef RLVR_HAVE_CUDA
#include "cuda/device.h"

#include "binding/exports.h"

namespace rlvr::binding {
namespace {

Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  const cuda::DeviceInfo device = cuda::probe_device();
  Napi::Object result = Napi::Object::New(info.Env());
  if (!device.reason.empty()) result.Set("reason", device.reason);
  result.Set("device", device.name);
  result.Set("computeCapability", std::to_string(device.compute_major) + "." + std::to_string(device.compute_minor));
  result.Set("memory", static_cast<double>(device.memory));
  result.Set("driver", device.driver);
  result.Set("runtime", device.runtime);
  return result;
}

}  // namespace

void export_cuda_device(Napi::Env env, const Exports& exports) {
  exports.cuda.Set("info", Napi::Function::New<cuda_info>(env, "info"));
}

}  // namespace rlvr::binding
#else
#include "binding/exports.h"

namespace rlvr::binding {

void export_cuda_device(Napi::Env, const Exports&) {}

}  // namespace rlvr::binding
#endif
