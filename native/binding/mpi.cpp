// The addon's `mpi` table: a library, and collective operations of its communicators, which are known by numbers.
#include <algorithm>
#include <climits>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/settled_elsewhere.h"
#include "mpi/process.h"

namespace rlvr::binding {
namespace {

using mpi::Collective;
using mpi::Process;

// Whether `failure` is none; otherwise it is thrown.
bool succeeded(Napi::Env env, const std::string& failure) {
  if (!failure.empty()) Napi::Error::New(env, failure).ThrowAsJavaScriptException();
  return failure.empty();
}

// load(file): what the library says of its version
Napi::Value load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString()) {
    Napi::TypeError::New(env, "rlvr-kernels native call: file: expected a string").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  if (!succeeded(env, Process::get().load(info[0].As<Napi::String>().Utf8Value()))) return env.Undefined();
  return Napi::String::New(env, Process::get().version());
}

// start(): whether this started MPI, rather than somebody before
Napi::Value start(const Napi::CallbackInfo& info) {
  bool started = false;
  if (!succeeded(info.Env(), Process::get().start(started))) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), started);
}

Napi::Value finalize(const Napi::CallbackInfo& info) {
  succeeded(info.Env(), Process::get().finalize());
  return info.Env().Undefined();
}

// drain(): blocks until the asynchronous operations of all communicators have ended
Napi::Value drain(const Napi::CallbackInfo& info) {
  Process::get().progress().drain();
  return info.Env().Undefined();
}

int int_in(Arguments& a, const char* name, int least = 0) {
  const double value = a.number(name);
  if (value >= least && value <= INT_MAX && value == static_cast<double>(static_cast<int>(value)))
    return static_cast<int>(value);
  return a.fail(name, "a whole number in range"), 0;
}

// exiting({ code })
Napi::Value exiting(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const int code = int_in(a, "code", INT_MIN);
  if (a.ok()) Process::get().set_exit_code(code);
  return info.Env().Undefined();
}

// open({ hasHandle, handle }): the number of a copy of MPI_COMM_WORLD, or of the communicator with a Fortran handle
Napi::Value open(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const bool has_handle = a.boolean("hasHandle");
  const int handle = int_in(a, "handle", INT_MIN);
  int number = 0;
  if (!a.ok() || !succeeded(info.Env(), Process::get().open(has_handle ? &handle : nullptr, number)))
    return info.Env().Undefined();
  return Napi::Number::New(info.Env(), number);
}

// Reads `communicator`, the number of an open one.
const mpi::Communicator* communicator_in(Arguments& a) {
  const mpi::Communicator* found = Process::get().communicator(int_in(a, "communicator"));
  if (found == nullptr) a.fail("communicator", "the number of an open one");
  return found;
}

// place({ communicator }): [rank, size]
Napi::Value place(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const mpi::Communicator* found = communicator_in(a);
  if (!a.ok()) return info.Env().Undefined();
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Napi::Number::New(info.Env(), found->rank));
  pair.Set(1u, Napi::Number::New(info.Env(), found->size));
  return pair;
}

// split({ communicator, color, key }): the number of the part that this rank is in
Napi::Value split(const Napi::CallbackInfo& info) {
  Arguments a(info);
  communicator_in(a);
  const int of = int_in(a, "communicator"), color = int_in(a, "color"), key = int_in(a, "key", INT_MIN);
  int number = 0;
  if (!a.ok() || !succeeded(info.Env(), Process::get().split(of, color, key, number))) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), number);
}

// release({ communicator, together })
Napi::Value release(const Napi::CallbackInfo& info) {
  Arguments a(info);
  communicator_in(a);
  const int number = int_in(a, "communicator");
  const bool together = a.boolean("together");
  if (a.ok()) succeeded(info.Env(), Process::get().release(number, together));
  return info.Env().Undefined();
}

using Begin = std::shared_ptr<Collective> (*)(Arguments& arguments);

// { communicator, values: Float64Array, count, maximum, out: Float64Array }
std::shared_ptr<Collective> begin_reduce(Arguments& a) {
  const mpi::Communicator* on = communicator_in(a);
  const int count = int_in(a, "count");
  const auto* values = a.array<const double>("values", count);
  const bool maximum = a.boolean("maximum");
  a.array<double>("out", count);
  if (!a.ok()) return nullptr;
  return Collective::reduce(*Process::get().library(), on->handle, {values, values + count}, maximum);
}

// { communicator, values: Float64Array, counts: Int32Array of every rank's, out: Float64Array for all }
std::shared_ptr<Collective> begin_gather(Arguments& a) {
  const mpi::Communicator* on = communicator_in(a);
  const auto* counts = a.array<const int32_t>("counts", on == nullptr ? 0 : on->size);
  if (!a.ok()) return nullptr;
  int64_t total = 0;
  for (int r = 0; r < on->size; ++r) {
    if (counts[r] < 0) return a.fail("counts", "counts of at least 0"), nullptr;
    total += counts[r];
  }
  if (total > INT_MAX) return a.fail("counts", "at most 2^31 - 1 numbers in all"), nullptr;
  const auto* values = a.array<const double>("values", counts[on->rank]);
  a.array<double>("out", total);
  if (!a.ok()) return nullptr;
  return Collective::gather(*Process::get().library(), on->handle, {values, values + counts[on->rank]},
                            {counts, counts + on->size});
}

// Throws what went wrong, or brings the result to `out`.
void finish(Napi::Env env, Napi::Object object, const Collective& collective) {
  if (!succeeded(env, Process::get().text_of(collective.error()))) return;
  const std::vector<double>& result = collective.result();
  Arguments a(env, object, nullptr);
  auto* out = a.array<double>("out", static_cast<int64_t>(result.size()));
  if (a.ok()) std::copy(result.begin(), result.end(), out);
}

template <Begin kBegin>
Napi::Value run_sync(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const std::shared_ptr<Collective> collective = kBegin(a);
  if (collective == nullptr) return info.Env().Undefined();
  collective->wait();
  finish(info.Env(), a.object(), *collective);
  return info.Env().Undefined();
}

template <Begin kBegin>
Napi::Value run_async(const Napi::CallbackInfo& info) {
  Arguments a(info);
  std::shared_ptr<Collective> collective = kBegin(a);
  if (collective == nullptr) return info.Env().Undefined();
  if (collective->wait_briefly()) {
    finish(info.Env(), a.object(), *collective);
    return info.Env().Undefined();
  }
  std::function<void()> say;
  const Napi::Value promise = settled_elsewhere(
      info.Env(), a.object(), [collective](Napi::Env env, Napi::Object held) { finish(env, held, *collective); }, say);
  Process::get().progress().add(std::move(collective), std::move(say));
  return promise;
}

}  // namespace

void export_mpi(Napi::Env env, const Exports& exports) {
  Napi::Object table = Napi::Object::New(env);
  const auto add = [&](const char* name, auto function) { table.Set(name, function); };
  add("load", Napi::Function::New<load>(env, "load"));
  add("start", Napi::Function::New<start>(env, "start"));
  add("finalize", Napi::Function::New<finalize>(env, "finalize"));
  add("exiting", Napi::Function::New<exiting>(env, "exiting"));
  add("drain", Napi::Function::New<drain>(env, "drain"));
  add("open", Napi::Function::New<open>(env, "open"));
  add("place", Napi::Function::New<place>(env, "place"));
  add("split", Napi::Function::New<split>(env, "split"));
  add("release", Napi::Function::New<release>(env, "release"));
  add("reduce", Napi::Function::New<run_sync<begin_reduce>>(env, "reduce"));
  add("reduceAsync", Napi::Function::New<run_async<begin_reduce>>(env, "reduceAsync"));
  add("gather", Napi::Function::New<run_sync<begin_gather>>(env, "gather"));
  add("gatherAsync", Napi::Function::New<run_async<begin_gather>>(env, "gatherAsync"));
  exports.cpu.Set("mpi", table);
}

}  // namespace rlvr::binding
