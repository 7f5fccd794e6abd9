#ifdef RLVR_HAVE_CUDA
#include <napi.h>

#include "binding/background.h"
#include "binding/cuda_session.h"

namespace rlvr::binding {
namespace {

constexpr napi_type_tag kMemoryTag = {0x2f0d1c5be1c94be5, 0x9a6f1f9d0b7e4d21};

}  // namespace

void throw_if_failed(Napi::Env env, cudaError_t error) {
  if (error != cudaSuccess) Napi::Error::New(env, cuda::describe(error)).ThrowAsJavaScriptException();
}

bool host_matrix(const Napi::CallbackInfo& info, size_t first, cuda::HostMatrix& matrix) {
  matrix = {};
  const Napi::Env env = info.Env();
  bool fits = info.Length() >= first + 5 && info[first].IsTypedArray();
  int64_t numbers[4] = {};
  for (size_t i = 0; fits && i < 4; ++i) {
    fits = info[first + 1 + i].IsNumber();
    if (fits) numbers[i] = info[first + 1 + i].As<Napi::Number>().Int64Value();
    fits = fits && numbers[i] >= 0 && numbers[i] < (int64_t{1} << 48);
  }
  const auto [rows, width, stride, size] = numbers;
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type = napi_int8_array;
  fits = fits && size >= 1 && size <= 8 && stride >= width && (rows == 0 || stride < (int64_t{1} << 52) / rows) &&
         napi_get_typedarray_info(env, info[first], &type, &length, &data, nullptr, nullptr) == napi_ok;
  const int64_t needed = rows == 0 ? 0 : ((rows - 1) * stride + width) * size;
  fits = fits && static_cast<int64_t>(info[first].As<Napi::TypedArray>().ByteLength()) >= needed;
  if (!fits) {
    Napi::TypeError::New(env, "rlvr-kernels native call: expected (array, rows, width, stride, elementSize)")
        .ThrowAsJavaScriptException();
    return false;
  }
  matrix = {data, rows, width, stride, size};
  return true;
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

// (array, rows, width, arrayStride, elementSize, stride)
template <bool kWrite, bool kAsync>
Napi::Value CudaMemory::copy(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  cuda::HostMatrix host{};
  if (!host_matrix(info, 0, host)) return env.Undefined();
  const int64_t stride = info[5].IsNumber() ? info[5].As<Napi::Number>().Int64Value() : -1;
  const Matrix shape{DType::kF32, host.rows, host.width, stride};
  const bool fits = memory_ != nullptr && stride >= host.width && stride < (int64_t{1} << 40) &&
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
