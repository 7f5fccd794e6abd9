// Turns an op (a reader of arguments and a function for each backend) into its JS functions. On the CPU: one that runs
// it now, one that runs it on a libuv thread and returns a promise; the arguments object, and with it every array an op
// reads or writes, is held by a persistent reference until the op is done. On CUDA: one that enqueues it in a session.
#pragma once

#include <napi.h>

#include <cstddef>
#include <string>

#include "binding/arguments.h"
#include "binding/deferred.h"
#include "binding/exports.h"

// The CUDA version of an op in the export lists below; nothing in a build without CUDA.
#ifdef RLVR_HAVE_CUDA
#include "binding/cuda_session.h"
#include "cuda/ops.h"
#include "cuda/timing.h"
#define RLVR_ON_CUDA(function) cuda::function
#else
#define RLVR_ON_CUDA(function) nullptr
#endif

namespace rlvr::binding {

template <class Op>
using Reader = Op (*)(Arguments& arguments);
template <class Op>
using Kernel = void (*)(const Op& op);

template <class Op, Reader<Op> kRead, Kernel<Op> kRun>
Napi::Value run_sync(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Op op = kRead(arguments);
  if (!arguments.ok()) return info.Env().Undefined();
  kRun(op);
  return info.Env().Undefined();
}

template <class Op, Kernel<Op> kRun>
class Worker : public Napi::AsyncWorker {
 public:
  Worker(Napi::Env env, const Op& op, Napi::Object arguments)
      : Napi::AsyncWorker(env, "rlvr-kernels"), op_(op), arguments_(Napi::Persistent(arguments)), deferred_(env) {}

  Napi::Value promise() const { return deferred_.promise(); }

 protected:
  void Execute() override { kRun(op_); }
  void OnOK() override { deferred_.resolve(); }
  void OnError(const Napi::Error& error) override { deferred_.reject(error.Value()); }

 private:
  Op op_;
  Napi::ObjectReference arguments_;
  Deferred deferred_;
};

template <class Op, Reader<Op> kRead, Kernel<Op> kRun>
Napi::Value run_async(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Op op = kRead(arguments);
  if (!arguments.ok()) return info.Env().Undefined();
  auto* worker = new Worker<Op, kRun>(info.Env(), op, arguments.object());  // deletes itself when done
  const Napi::Value promise = worker->promise();                            // empty during teardown
  if (promise.IsEmpty())
    delete worker;
  else
    worker->Queue();
  return promise;
}

#ifdef RLVR_HAVE_CUDA
template <class Op>
using Enqueue = cudaError_t (*)(const Op& op, cuda::PhaseQueue& queue);

// A CudaSession::Step.
template <class Op, Reader<Op> kRead, Enqueue<Op> kEnqueue>
void run_in_session(CudaSession& session, Napi::Env env, Napi::Object object) {
  SessionPlacement placement(session);
  Arguments arguments(env, object, &placement);
  const Op op = kRead(arguments);
  if (arguments.ok()) throw_if_failed(env, session.get().run(op, kEnqueue));
}

// (session, arguments): at the session's next flush. Arguments are read twice: their arrays get their places in between,
// all at once.
template <class Op, Reader<Op> kRead, Enqueue<Op> kEnqueue>
Napi::Value enqueue(const Napi::CallbackInfo& info) {
  CudaSession* session = CudaSession::from(info[0]);
  if (session == nullptr) return info.Env().Undefined();
  SessionAnnouncement announcement(*session);
  Arguments arguments(info, 1, &announcement);
  kRead(arguments);
  if (arguments.ok()) session->defer(run_in_session<Op, kRead, kEnqueue>, arguments.object());
  return info.Env().Undefined();
}

// (session, arguments, repeats, asGraph): milliseconds per run.
template <class Op, Reader<Op> kRead, Enqueue<Op> kEnqueue>
Napi::Value time(const Napi::CallbackInfo& info) {
  enqueue<Op, kRead, kEnqueue>(info);
  if (info.Env().IsExceptionPending()) return info.Env().Undefined();
  CudaSession* session = CudaSession::from(info[0]);
  session->flush(info.Env());  // uploads what there is to upload
  if (info.Env().IsExceptionPending()) return info.Env().Undefined();
  SessionPlacement placement(*session);
  Arguments arguments(info, 1, &placement);
  const Op op = kRead(arguments);
  const int repeats = info[2].IsNumber() ? info[2].As<Napi::Number>().Int32Value() : 1;
  const bool as_graph = info[3].IsBoolean() && info[3].As<Napi::Boolean>().Value();
  cuda::DeviceContext& context = session->get().context();
  const auto run = [&] {
    cuda::PhaseQueue queue(context);
    const cudaError_t error = kEnqueue(op, queue);
    return error == cudaSuccess ? queue.flush() : error;
  };
  double milliseconds = 0;
  throw_if_failed(info.Env(), cuda::time_on_device(context, repeats > 0 ? repeats : 1, as_graph, run, milliseconds));
  return Napi::Number::New(info.Env(), milliseconds);
}
#else
template <class Op>
using Enqueue = std::nullptr_t;
#endif

// Exports the functions of `name` for the CPU alone.
template <class Op, Reader<Op> kRead, Kernel<Op> kCpu>
void export_cpu_op(Napi::Env env, const Exports& exports, const std::string& name) {
  exports.cpu.Set(name, Napi::Function::New<run_sync<Op, kRead, kCpu>>(env, name));
  exports.cpu.Set(name + "Async", Napi::Function::New<run_async<Op, kRead, kCpu>>(env, name + "Async"));
}

// Exports the functions of `name` for each backend of this build.
template <class Op, Reader<Op> kRead, Kernel<Op> kCpu, Enqueue<Op> kCuda>
void export_op(Napi::Env env, const Exports& exports, const std::string& name) {
  export_cpu_op<Op, kRead, kCpu>(env, exports, name);
#ifdef RLVR_HAVE_CUDA
  exports.cuda.Set(name, Napi::Function::New<enqueue<Op, kRead, kCuda>>(env, name));
  exports.cuda.Set(name + "Time", Napi::Function::New<time<Op, kRead, kCuda>>(env, name + "Time"));
#endif
}

}  // namespace rlvr::binding
