// The JS side of a CUDA session and of device memory: what an op's arguments may hold besides host arrays.
#pragma once

#include <napi.h>

#include <memory>
#include <utility>
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

// class Session { upload(host matrix), read(arrays) (and ...Async), flush(), close() }
class CudaSession : public Napi::ObjectWrap<CudaSession> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::shared_ptr<cuda::DeviceContext> context);
  // Throws, and gives null, for any other value, and after close().
  static CudaSession* from(const Napi::Value& value);

  explicit CudaSession(const Napi::CallbackInfo& info);

  cuda::Session& get() { return *session_; }

  // Runs an op with its arguments, whose arrays have been placed. Throws what goes wrong.
  using Step = void (*)(CudaSession& session, Napi::Env env, Napi::Object arguments);
  // Runs `step` at the next flush(). Keeps the arrays of its arguments alive as long as the session, so that no other
  // array gets their addresses.
  void defer(Step step, Napi::Object arguments);
  // Places the arrays of all steps at once, then runs the steps. Throws what goes wrong.
  void flush(Napi::Env env);

 private:
  template <bool kAsync>
  Napi::Value upload(const Napi::CallbackInfo& info);
  template <bool kAsync>
  Napi::Value read(const Napi::CallbackInfo& info);
  void flush(const Napi::CallbackInfo& info) { flush(info.Env()); }
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<cuda::Session> session_;
  std::vector<Napi::ObjectReference> held_;
  std::vector<std::pair<Step, size_t>> steps_;  // with the number of the arguments among what is held
};

// Places arrays as their mirrors in a session; matrices as device memory, or mirrored too.
class SessionPlacement : public Placement {
 public:
  explicit SessionPlacement(CudaSession& session) : session_(session.get()) {}
  void* array(void* host, int64_t bytes, bool) override { return session_.mirror(host, bytes); }
  void* scratch(const void* host, int64_t bytes, int64_t) override { return session_.mirror(host, bytes); }
  void* matrix(void* host, Matrix& shape) override;
  void* matrix(const Napi::Value& value, const Matrix& shape, const char*& expected) override;

 protected:
  cuda::Session& session() { return session_; }

 private:
  cuda::Session& session_;
};

// Announces arrays to a session. The op that is read with it has no arrays yet.
class SessionAnnouncement : public SessionPlacement {
 public:
  using SessionPlacement::SessionPlacement;
  void* array(void* host, int64_t bytes, bool read) override {
    session().announce(host, bytes, read);
    return host == nullptr ? this : host;
  }
  void* scratch(const void* host, int64_t bytes, int64_t zeros) override {
    session().announce_scratch(host, bytes, zeros);
    return nullptr;
  }
};

// The constructors of an environment, made once.
struct CudaClasses {
  Napi::FunctionReference device;
  Napi::FunctionReference memory;
  Napi::FunctionReference session;
  Napi::FunctionReference nccl;
  static CudaClasses& of(Napi::Env env) { return *env.GetInstanceData<CudaClasses>(); }
};

// The host matrix { array, dtype, rows, width, stride } that is a call's first argument; false, and a TypeError thrown,
// for anything else.
bool host_matrix(const Napi::CallbackInfo& info, cuda::HostMatrix& matrix);

}  // namespace rlvr::binding
