// Turns an op (a reader of arguments and a blocking function for each backend) into its JS functions: one that runs it
// now, one that runs it on a libuv thread and returns a promise. The arguments object, and with it every array an op
// reads or writes, is held by a persistent reference until the op is done.
#pragma once

#include <napi.h>

#include <string>

#include "binding/arguments.h"
#include "binding/exports.h"

// The CUDA version of an op in the export lists below; nothing in a build without CUDA.
#ifdef RLVR_HAVE_CUDA
#include "cuda/host_arrays.h"
#define RLVR_ON_CUDA(function) cuda::host::function
#else
#define RLVR_ON_CUDA(function) nullptr
#endif

namespace rlvr::binding {

template <class Op>
using Reader = Op (*)(Arguments& arguments);
// Returns what went wrong, or an empty string.
template <class Op>
using Kernel = std::string (*)(const Op& op);

template <class Op, void (*kRun)(const Op&)>
std::string never_fails(const Op& op) {
  kRun(op);
  return {};
}

template <class Op, Reader<Op> kRead, Kernel<Op> kRun>
Napi::Value run_sync(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Op op = kRead(arguments);
  if (!arguments.ok()) return info.Env().Undefined();
  const std::string failure = kRun(op);
  if (!failure.empty()) Napi::Error::New(info.Env(), failure).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

template <class Op, Kernel<Op> kRun>
class Worker : public Napi::AsyncWorker {
 public:
  Worker(Napi::Env env, const Op& op, Napi::Object arguments)
      : Napi::AsyncWorker(env, "rlvr-kernels"),
        op_(op),
        arguments_(Napi::Persistent(arguments)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    const std::string failure = kRun(op_);
    if (!failure.empty()) SetError(failure);
  }
  void OnOK() override { deferred_.Resolve(Env().Undefined()); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Op op_;
  Napi::ObjectReference arguments_;
  Napi::Promise::Deferred deferred_;
};

template <class Op, Reader<Op> kRead, Kernel<Op> kRun>
Napi::Value run_async(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Op op = kRead(arguments);
  if (!arguments.ok()) return info.Env().Undefined();
  auto* worker = new Worker<Op, kRun>(info.Env(), op, arguments.object());  // deletes itself when done
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

template <class Op, Reader<Op> kRead, Kernel<Op> kRun>
void export_functions(Napi::Env env, Napi::Object target, const std::string& name) {
  target.Set(name, Napi::Function::New<run_sync<Op, kRead, kRun>>(env, name));
  target.Set(name + "Async", Napi::Function::New<run_async<Op, kRead, kRun>>(env, name + "Async"));
}

// Exports `name` and `name`Async for each backend of this build.
template <class Op, Reader<Op> kRead, void (*kCpu)(const Op&), Kernel<Op> kCuda>
void export_op(Napi::Env env, const Exports& exports, const char* name) {
  export_functions<Op, kRead, never_fails<Op, kCpu>>(env, exports.cpu, name);
#ifdef RLVR_HAVE_CUDA
  export_functions<Op, kRead, kCuda>(env, exports.cuda, name);
#endif
}

}  // namespace rlvr::binding
