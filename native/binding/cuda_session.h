// The JS side of a CUDA session and of device memory: what an op's arguments may hold besides host arrays.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "binding/arguments.h"
#include "cuda/device_memory.h"
#include "cuda/session.h"

namespace rlvr::binding {

void throw_if_failed(Napi::Env env, cudaError_t error);

// class Memory { pointer: bigint, bytes: number, dispose(), write / read(host matrix, stride) (and ...Async) }
class CudaMemory : public Napi::ObjectWrap<CudaMemory> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::shared_ptr<cuda::DeviceMemory> memory);
  // Null for any other value, and after dispose().
  static std::shared_ptr<cuda::DeviceMemory> from(const Napi::Value& value);

  explicit CudaMemory(const Napi::CallbackInfo& info);
  void Finalize(Napi::Env env) override;

 private:
  Napi::Value pointer(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  template <bool kWrite, bool kAsync>
  Napi::Value copy(const Napi::CallbackInfo& info);
  void drop(Napi::Env env);

  std::shared_ptr<cuda::DeviceMemory> memory_;
};

// class Session { upload(host matrix), read(arrays) (and ...Async), close() }
class CudaSession : public Napi::ObjectWrap<CudaSession> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::shared_ptr<cuda::DeviceContext> context);
  // Throws, and gives null, for any other value, and after close().
  static CudaSession* from(const Napi::Value& value);

  explicit CudaSession(const Napi::CallbackInfo& info);

  cuda::Session& get() { return *session_; }
  // Keeps the arrays of an arguments object alive as long as the session, so that no other array gets their addresses.
  void hold(Napi::Object arguments) { held_.push_back(Napi::Persistent(arguments)); }

 private:
  template <bool kAsync>
  Napi::Value upload(const Napi::CallbackInfo& info);
  template <bool kAsync>
  Napi::Value read(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<cuda::Session> session_;
  std::vector<Napi::ObjectReference> held_;
};

// Places arrays as their mirrors in a session; matrices as device memory, or mirrored too.
class SessionPlacement : public Placement {
 public:
  explicit SessionPlacement(CudaSession& session) : session_(session.get()) {}
  void* array(void* host, int64_t bytes, bool read) override { return session_.mirror(host, bytes, read); }
  void* matrix(void* host, Matrix& shape) override;
  void* matrix(const Napi::Value& value, const Matrix& shape, const char*& expected) override;

 private:
  cuda::Session& session_;
};

// The constructors of an environment, made once.
struct CudaClasses {
  Napi::FunctionReference device;
  Napi::FunctionReference memory;
  Napi::FunctionReference session;
  static CudaClasses& of(Napi::Env env) { return *env.GetInstanceData<CudaClasses>(); }
};

// The host matrix { array, dtype, rows, width, stride } that is a call's first argument; false, and a TypeError thrown,
// for anything else.
bool host_matrix(const Napi::CallbackInfo& info, cuda::HostMatrix& matrix);

}  // namespace rlvr::binding
