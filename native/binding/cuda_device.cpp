// The addon's CUDA exports beside the ops: cuda.info(), cuda.findProducts(), cuda.nccl and cuda.Device, in builds with
// CUDA.
#include "binding/exports.h"

#ifdef RLVR_HAVE_CUDA
#include "binding/background.h"
#include "binding/cuda_session.h"
#include "binding/emulation_controls.h"
#include "binding/nccl.h"
#include "cuda/cublaslt_library.h"
#include "cuda/device.h"
#include "cuda/timing.h"

namespace rlvr::binding {
namespace {

// Keeps an object alive until the last copy of the result is gone; other values need nothing.
std::shared_ptr<void> keep_alive(const Napi::Value& value) {
  if (!value.IsObject()) return nullptr;
  return std::make_shared<Napi::ObjectReference>(Napi::Persistent(value.As<Napi::Object>()));
}

// class Device { allocatedBytes, capturing, allocate, wrap, session, nccl, timeCopy, waitStream, waitEvent,
// recordEvent, synchronize and trim (and ...Async) }
class CudaDevice : public Napi::ObjectWrap<CudaDevice> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit CudaDevice(const Napi::CallbackInfo& info);

 private:
  Napi::Value allocated_bytes(const Napi::CallbackInfo& info);
  Napi::Value capturing(const Napi::CallbackInfo& info);
  Napi::Value allocate(const Napi::CallbackInfo& info);
  Napi::Value wrap(const Napi::CallbackInfo& info);
  Napi::Value session(const Napi::CallbackInfo& info);
  Napi::Value nccl(const Napi::CallbackInfo& info);
  Napi::Value time_copy(const Napi::CallbackInfo& info);
  Napi::Value wait_stream(const Napi::CallbackInfo& info);
  template <cudaError_t (cuda::DeviceContext::*kOrder)(cudaEvent_t)>
  Napi::Value order(const Napi::CallbackInfo& info);
  template <cudaError_t (cuda::DeviceContext::*kWork)(), bool kAsync>
  Napi::Value wait(const Napi::CallbackInfo& info);
  Napi::Value fail(const Napi::CallbackInfo& info, const char* expected);

  std::shared_ptr<cuda::DeviceContext> context_;
};

Napi::Function CudaDevice::define(Napi::Env env) {
  using Context = cuda::DeviceContext;
  return DefineClass(env, "Device",
                     {
                         InstanceAccessor<&CudaDevice::allocated_bytes>("allocatedBytes"),
                         InstanceAccessor<&CudaDevice::capturing>("capturing"),
                         InstanceMethod<&CudaDevice::allocate>("allocate"),
                         InstanceMethod<&CudaDevice::wrap>("wrap"),
                         InstanceMethod<&CudaDevice::session>("session"),
                         InstanceMethod<&CudaDevice::nccl>("nccl"),
                         InstanceMethod<&CudaDevice::time_copy>("timeCopy"),
                         InstanceMethod<&CudaDevice::wait_stream>("waitStream"),
                         InstanceMethod<&CudaDevice::order<&Context::wait_event>>("waitEvent"),
                         InstanceMethod<&CudaDevice::order<&Context::record_event>>("recordEvent"),
                         InstanceMethod<&CudaDevice::wait<&Context::synchronize, false>>("synchronize"),
                         InstanceMethod<&CudaDevice::wait<&Context::synchronize, true>>("synchronizeAsync"),
                         InstanceMethod<&CudaDevice::wait<&Context::trim, false>>("trim"),
                         InstanceMethod<&CudaDevice::wait<&Context::trim, true>>("trimAsync"),
                     });
}

// A handle or an address; lossless, since lib/ has checked its range.
template <class Pointer>
Pointer handle(const Napi::Value& value) {
  bool lossless = true;
  return reinterpret_cast<Pointer>(value.As<Napi::BigInt>().Uint64Value(&lossless));
}

// (index, stream, owner): stream is a cudaStream_t as a bigint, or undefined for one of our own.
CudaDevice::CudaDevice(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CudaDevice>(info) {
  if (!info[0].IsNumber() || !(info[1].IsUndefined() || info[1].IsBigInt())) {
    fail(info, "(index, stream)");
    return;
  }
  const int index = info[0].As<Napi::Number>().Int32Value();
  std::optional<cuda::ForeignStream> foreign;
  if (info[1].IsBigInt()) foreign = {handle<cudaStream_t>(info[1]), keep_alive(info[2])};
  std::string failure;
  context_ = cuda::DeviceContext::open(index, std::move(foreign), failure);
  if (context_ == nullptr) Napi::Error::New(info.Env(), failure).ThrowAsJavaScriptException();
}

Napi::Value CudaDevice::fail(const Napi::CallbackInfo& info, const char* expected) {
  Napi::TypeError::New(info.Env(), std::string("rlvr-kernels native call: expected ") + expected)
      .ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

Napi::Value CudaDevice::allocated_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(context_->allocated_bytes()));
}

Napi::Value CudaDevice::capturing(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), context_->capturing());
}

Napi::Value CudaDevice::allocate(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) return fail(info, "(bytes)");
  cudaError_t error = cudaSuccess;
  const auto memory = cuda::DeviceMemory::take(context_, info[0].As<Napi::Number>().Int64Value(), error);
  if (memory != nullptr) return CudaMemory::create(info.Env(), memory);
  throw_if_failed(info.Env(), error);
  return info.Env().Undefined();
}

// (pointer, bytes)
Napi::Value CudaDevice::wrap(const Napi::CallbackInfo& info) {
  if (!info[0].IsBigInt() || !info[1].IsNumber()) return fail(info, "(pointer, bytes)");
  auto* pointer = handle<void*>(info[0]);
  std::string reason;
  const auto memory = cuda::DeviceMemory::wrap(context_, pointer, info[1].As<Napi::Number>().Int64Value(), reason);
  if (memory != nullptr) return CudaMemory::create(info.Env(), memory);
  return Napi::String::New(info.Env(), reason);
}

Napi::Value CudaDevice::session(const Napi::CallbackInfo& info) { return CudaSession::create(info.Env(), context_); }

Napi::Value CudaDevice::nccl(const Napi::CallbackInfo& info) { return NcclRank::create(info, context_); }

// (to, from, bytes, repeats): milliseconds of one copy within the device, the benchmark's yardstick.
Napi::Value CudaDevice::time_copy(const Napi::CallbackInfo& info) {
  const auto to = CudaMemory::from(info[0]);
  const auto from = CudaMemory::from(info[1]);
  if (to == nullptr || from == nullptr || !info[2].IsNumber() || !info[3].IsNumber())
    return fail(info, "(to, from, bytes, repeats)");
  const int64_t bytes = info[2].As<Napi::Number>().Int64Value();
  const int repeats = info[3].As<Napi::Number>().Int32Value();
  if (bytes < 0 || bytes > to->bytes() || bytes > from->bytes() || repeats < 1) return fail(info, "a copy that fits");
  const auto copy = [&] {
    return cudaMemcpyAsync(to->pointer(), from->pointer(), static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                           context_->stream());
  };
  double milliseconds = 0;
  throw_if_failed(info.Env(), cuda::time_on_device(*context_, repeats, false, copy, milliseconds));
  return Napi::Number::New(info.Env(), milliseconds);
}

// (stream)
Napi::Value CudaDevice::wait_stream(const Napi::CallbackInfo& info) {
  if (!info[0].IsBigInt()) return fail(info, "(stream)");
  const std::string failure = context_->wait_for(handle<cudaStream_t>(info[0]));
  if (!failure.empty()) Napi::Error::New(info.Env(), failure).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

// (event)
template <cudaError_t (cuda::DeviceContext::*kOrder)(cudaEvent_t)>
Napi::Value CudaDevice::order(const Napi::CallbackInfo& info) {
  if (!info[0].IsBigInt()) return fail(info, "(event)");
  throw_if_failed(info.Env(), (context_.get()->*kOrder)(handle<cudaEvent_t>(info[0])));
  return info.Env().Undefined();
}

template <cudaError_t (cuda::DeviceContext::*kWork)(), bool kAsync>
Napi::Value CudaDevice::wait(const Napi::CallbackInfo& info) {
  const auto work = [context = context_] { return cuda::describe((context.get()->*kWork)()); };
  if constexpr (kAsync) return Background::start(info.Env(), {info.This()}, work);
  const std::string failure = work();
  if (!failure.empty()) Napi::Error::New(info.Env(), failure).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  const int index = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 0;
  const cuda::DeviceInfo device = cuda::probe_device(index);
  Napi::Object result = Napi::Object::New(info.Env());
  if (!device.reason.empty()) result.Set("reason", device.reason);
  result.Set("device", device.name);
  result.Set("computeCapability", std::to_string(device.compute_major) + "." + std::to_string(device.compute_minor));
  result.Set("memory", static_cast<double>(device.memory));
  result.Set("driver", device.driver);
  result.Set("runtime", device.runtime);
  result.Set("devices", device.count);
  return result;
}

// Looks for the library that hidden states need: why there is none, or an empty string.
Napi::Value find_products(const Napi::CallbackInfo& info) {
  std::string failure;
  return Napi::String::New(info.Env(), cuda::lt::find_library(failure) == nullptr ? failure : "");
}

}  // namespace

void export_cuda_device(Napi::Env env, const Exports& exports) {
  auto* classes = new CudaClasses;  // deleted with the environment
  classes->device = Napi::Persistent(CudaDevice::define(env));
  classes->memory = Napi::Persistent(CudaMemory::define(env));
  classes->session = Napi::Persistent(CudaSession::define(env));
  classes->nccl = Napi::Persistent(NcclRank::define(env));
  env.SetInstanceData(classes);
  exports.cuda.Set("info", Napi::Function::New<cuda_info>(env, "info"));
  exports.cuda.Set("findProducts", Napi::Function::New<find_products>(env, "findProducts"));
  exports.cuda.Set("nccl", nccl_table(env));
  exports.cuda.Set("Device", classes->device.Value());
#ifdef RLVR_CUDA_EMULATION
  exports.cuda.Set("emulation", emulation_controls(env));
#endif
}

}  // namespace rlvr::binding
#else
namespace rlvr::binding {

void export_cuda_device(Napi::Env, const Exports&) {}

}  // namespace rlvr::binding
#endif
