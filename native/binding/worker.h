// Turns an op (a reader of arguments and a blocking function) into its two JS functions: one that runs it
// now, one that runs it on a libuv thread and returns a promise. The arguments object, and with it every
// array an op reads or writes, is held by a persistent reference until the op is done.
#pragma once

#include <napi.h>

#include "binding/arguments.h"

namespace rlvr::binding {

template <class Op>
using Reader = Op (*)(Arguments& arguments);
template <class Op>
using Kernel = void (*)(const Op& op);

template <class Op, Reader<Op> kRead, Kernel<Op> kRun>
Napi::Value run_sync(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Op op = kRead(arguments);
  if (arguments.ok()) kRun(op);
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
  void Execute() override { kRun(op_); }
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

// Exports `name` and `name`Async.
template <class Op, Reader<Op> kRead, Kernel<Op> kRun>
void export_op(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<run_sync<Op, kRead, kRun>>(env, name));
  const std::string async_name = std::string(name) + "Async";
  exports.Set(async_name, Napi::Function::New<run_async<Op, kRead, kRun>>(env, async_name));
}

}  // namespace rlvr::binding
