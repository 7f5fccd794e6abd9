#ifdef RLVR_HAVE_CUDA
#include <napi.h>

#include <algorithm>

#include "binding/background.h"
#include "binding/cuda_session.h"

namespace rlvr::binding {
namespace {

constexpr napi_type_tag kMemoryTag = {0x2f0d1c5be1c94be5, 0x9a6f1f9d0b7e4d21};

}  // namespace

void throw_if_failed(Napi::Env env, cudaError_t error) {
  if (error != cudaSuccess) Napi::Error::New(env, cuda::describe(error)).ThrowAsJavaScriptException();
}

bool host_matrix(const Napi::CallbackInfo& info, cuda::HostMatrix& matrix) {
  Arguments a(info);
  Matrix shape{};
  shape.dtype = static_cast<DType>(a.integer("dtype", 2));
  shape.rows = a.integer("rows");
  shape.width = a.integer("width");
  shape.stride = a.integer("stride");
  void* data = a.matrix("array", shape.dtype, shape.rows, shape.width, shape.stride);
  matrix = {data, shape.rows, shape.width, shape.stride, shape.element_size()};
  return a.ok();
}

Napi::Function CudaMemory::define(Napi::Env env) {
  return DefineClass(env, "Memory",
                     {
                         InstanceAccessor<&CudaMemory::pointer>("pointer"),
                         InstanceAccessor<&CudaMemory::bytes>("bytes"),
                         InstanceMethod<&CudaMemory::dispose>("dispose"),
                         InstanceMethod<&CudaMemory::copy<true, false>>("write"),
                         InstanceMethod<&CudaMemory::copy<true, true>>("writeAsync"),
                         InstanceMethod<&CudaMemory::copy<false, false>>("read"),
                         InstanceMethod<&CudaMemory::copy<false, true>>("readAsync"),
                     });
}

Napi::Value CudaMemory::create(Napi::Env env, std::shared_ptr<cuda::DeviceMemory> memory) {
  return CudaClasses::of(env).memory.New({Napi::External<std::shared_ptr<cuda::DeviceMemory>>::New(env, &memory)});
}

CudaMemory::CudaMemory(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CudaMemory>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    Napi::TypeError::New(info.Env(), "rlvr-kernels: memory comes from a device").ThrowAsJavaScriptException();
    return;
  }
  memory_ = *info[0].As<Napi::External<std::shared_ptr<cuda::DeviceMemory>>>().Data();
  info.This().As<Napi::Object>().TypeTag(&kMemoryTag);
  // So that V8 knows what collecting this object would free.
  if (memory_->owned()) Napi::MemoryManagement::AdjustExternalMemory(info.Env(), memory_->bytes());
}

std::shared_ptr<cuda::DeviceMemory> CudaMemory::from(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kMemoryTag)) return nullptr;
  return Unwrap(value.As<Napi::Object>())->memory_;
}

void CudaMemory::drop(Napi::Env env) {
  if (memory_ == nullptr) return;
  if (memory_->owned()) Napi::MemoryManagement::AdjustExternalMemory(env, -memory_->bytes());
  memory_.reset();
}

void CudaMemory::Finalize(Napi::Env env) { drop(env); }
void CudaMemory::dispose(const Napi::CallbackInfo& info) { drop(info.Env()); }

Napi::Value CudaMemory::pointer(const Napi::CallbackInfo& info) {
  const auto address = memory_ == nullptr ? 0 : reinterpret_cast<uint64_t>(memory_->pointer());
  return Napi::BigInt::New(info.Env(), address);
}

Napi::Value CudaMemory::bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), memory_ == nullptr ? 0 : static_cast<double>(memory_->bytes()));
}

// (host matrix, stride)
template <bool kWrite, bool kAsync>
Napi::Value CudaMemory::copy(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  cuda::HostMatrix host{};
  if (!host_matrix(info, host)) return env.Undefined();
  const int64_t stride = info[1].IsNumber() ? info[1].As<Napi::Number>().Int64Value() : -1;
  const int64_t largest = (int64_t{1} << 52) / std::max<int64_t>(host.rows, 1);
  const Matrix shape{DType::kF32, host.rows, host.width, stride};
  const bool fits = memory_ != nullptr && stride >= host.width && stride <= largest &&
                    shape.elements() * host.size <= memory_->bytes();
  if (!fits) {
    Napi::TypeError::New(env, "rlvr-kernels native call: expected live device memory that holds the array")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const auto work = [memory = memory_, host, stride] {
    return cuda::describe(kWrite ? memory->write(host, stride) : memory->read(host, stride));
  };
  if constexpr (kAsync) return Background::start(env, {info[0], info.This()}, work);
  const std::string failure = work();
  if (!failure.empty()) Napi::Error::New(env, failure).ThrowAsJavaScriptException();
  return env.Undefined();
}

}  // namespace rlvr::binding
#endif
