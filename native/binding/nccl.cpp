#ifdef RLVR_HAVE_CUDA
#include "binding/nccl.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "binding/cuda_session.h"
#include "binding/settled_elsewhere.h"
#include "nccl/library.h"

namespace rlvr::binding {
namespace {

constexpr napi_type_tag kRankTag = {0x3c64a5a2b77d4f0e, 0x8d1f2b0c95e64a17};

Napi::Value refuse(const Napi::CallbackInfo& info, const char* expected) {
  Napi::TypeError::New(info.Env(), std::string("rlvr-kernels native call: expected ") + expected)
      .ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

void throw_error(Napi::Env env, const std::string& failure) {
  if (!failure.empty()) Napi::Error::New(env, failure).ThrowAsJavaScriptException();
}

int count_in(Arguments& a, const char* name) { return static_cast<int>(a.integer(name, INT_MAX)); }

// load(file): the version, as NCCL has it: 10000 * major + 100 * minor + patch
Napi::Value load(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) return refuse(info, "(file)");
  std::string failure;
  const nccl::Functions* functions = nccl::open_library(info[0].As<Napi::String>().Utf8Value(), failure);
  throw_error(info.Env(), failure);
  int version = 0;
  if (functions != nullptr) functions->GetVersion(&version);
  return Napi::Number::New(info.Env(), version);
}

Napi::Value unique_id(const Napi::CallbackInfo& info) {
  const nccl::Functions* functions = nccl::library();
  if (functions == nullptr) return refuse(info, "a library, loaded");
  nccl::UniqueId id{};
  const nccl::Result result = functions->GetUniqueId(&id);
  if (result != nccl::kSuccess) throw_error(info.Env(), functions->GetErrorString(result));
  Napi::Uint8Array bytes = Napi::Uint8Array::New(info.Env(), sizeof(id));
  std::memcpy(bytes.Data(), &id, sizeof(id));
  return bytes;
}

// Values and results in memory of their own: that of the caller may go while the other ranks have yet to come.
struct Numbers {
  std::vector<double> values;
  std::vector<int> counts;
  std::vector<double> out;
  int32_t bad_row = -1;
};

void deliver(Napi::Env env, Napi::Object object, const std::vector<double>& result) {
  Arguments a(env, object, nullptr);
  auto* out = a.array<double>("out", static_cast<int64_t>(result.size()));
  if (a.ok()) std::copy(result.begin(), result.end(), out);
}

}  // namespace

struct NcclRank::Job {
  std::function<std::string()> work;                            // on any thread: what went wrong, or nothing
  std::function<void(Napi::Env, Napi::Object)> done = nullptr;  // with the arguments
  std::string failure = {};
};

Napi::Function NcclRank::define(Napi::Env env) {
  using R = NcclRank;
  return DefineClass(env, "Nccl",
                     {
                         InstanceMethod<&R::run<&R::open, true>>("openAsync"),
                         InstanceMethod<&R::run<&R::adopt, false>>("adopt"),
                         InstanceMethod<&R::run<&R::reduce, false>>("reduce"),
                         InstanceMethod<&R::run<&R::reduce, true>>("reduceAsync"),
                         InstanceMethod<&R::run<&R::gather, false>>("gather"),
                         InstanceMethod<&R::run<&R::gather, true>>("gatherAsync"),
                         InstanceMethod<&R::run<&R::sum, false>>("sum"),
                         InstanceMethod<&R::run<&R::sum, true>>("sumAsync"),
                         InstanceMethod<&R::run<&R::close, false>>("close"),
                         InstanceMethod<&R::run<&R::close, true>>("closeAsync"),
                         InstanceMethod<&R::wait>("wait"),
                         InstanceMethod<&R::dispose>("dispose"),
                     });
}

Napi::Value NcclRank::create(const Napi::CallbackInfo& info, std::shared_ptr<cuda::DeviceContext> context) {
  const nccl::Functions* functions = nccl::library();
  if (functions == nullptr || !info[0].IsNumber()) return refuse(info, "(longest), and a library, loaded");
  const auto longest = nccl::Communicator::Milliseconds(info[0].As<Napi::Number>().Int64Value());
  std::string failure;
  auto made = nccl::Communicator::make(*functions, std::move(context), longest, failure);
  throw_error(info.Env(), failure);
  if (made == nullptr) return info.Env().Undefined();
  return CudaClasses::of(info.Env()).nccl.New({Napi::External<decltype(made)>::New(info.Env(), &made)});
}

NcclRank::NcclRank(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NcclRank>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    Napi::TypeError::New(info.Env(), "rlvr-kernels: a communicator comes from a device").ThrowAsJavaScriptException();
    return;
  }
  communicator_ = *info[0].As<Napi::External<std::shared_ptr<nccl::Communicator>>>().Data();
  info.This().As<Napi::Object>().TypeTag(&kRankTag);
}

void NcclRank::drop() {
  if (communicator_ != nullptr) communicator_->abandon();
  communicator_.reset();
}

// An asynchronous call has a thread of its own: it waits for other ranks, which may wait for a thread themselves.
Napi::Value NcclRank::run(const Napi::CallbackInfo& info, Reader read, bool async) {
  const Napi::Env env = info.Env();
  if (communicator_ == nullptr) return refuse(info, "an open communicator");
  Arguments a(info);
  const std::shared_ptr<Job> job = a.ok() ? (this->*read)(a) : nullptr;
  if (job == nullptr) return env.Undefined();
  const auto finish = [job](Napi::Env env, Napi::Object object) {
    job->work = nullptr;  // what it held is let go on this thread, which device memory needs
    if (!job->failure.empty())
      throw_error(env, job->failure);
    else if (job->done)
      job->done(env, object);
  };
  if (!async) {
    job->failure = job->work();
    finish(env, a.object());
    return env.Undefined();
  }
  std::function<void()> say;
  const Napi::Value promise = settled_elsewhere(env, a.object(), finish, say);
  communicator_->count(1);
  std::thread([own = job, say, on = communicator_]() mutable {
    own->failure = own->work();
    on->count(-1);
    on.reset();
    own.reset();
    say();
  }).detach();
  return promise;
}

// { id: Uint8Array, rank, size }
std::unique_ptr<NcclRank::Job> NcclRank::open(Arguments& a) {
  nccl::UniqueId id{};
  const auto* bytes = a.array<const uint8_t>("id", sizeof(id));
  const int size = count_in(a, "size"), rank = count_in(a, "rank");
  if (a.ok() && rank >= size) a.fail("rank", "a number below size");
  if (!a.ok()) return nullptr;
  std::memcpy(&id, bytes, sizeof(id));
  return std::make_unique<Job>(Job{[on = communicator_, id, rank, size] { return on->open(id, rank, size); }});
}

// { comm: bigint, rank, size }
std::unique_ptr<NcclRank::Job> NcclRank::adopt(Arguments& a) {
  const Napi::Value comm = a.object().Get("comm");
  const int size = count_in(a, "size"), rank = count_in(a, "rank");
  bool lossless = true;
  if (a.ok() && !comm.IsBigInt()) a.fail("comm", "an address");
  if (!a.ok()) return nullptr;
  auto* other = reinterpret_cast<nccl::Comm>(comm.As<Napi::BigInt>().Uint64Value(&lossless));
  return std::make_unique<Job>(Job{[on = communicator_, other, rank, size] { return on->adopt(other, rank, size); }});
}

// { values: Float64Array, count, maximum, out: Float64Array }
std::unique_ptr<NcclRank::Job> NcclRank::reduce(Arguments& a) {
  const int count = count_in(a, "count");
  const auto* values = a.array<const double>("values", count);
  const bool maximum = a.boolean("maximum");
  a.array<double>("out", count);
  if (!a.ok()) return nullptr;
  const auto numbers = std::make_shared<Numbers>();
  numbers->values.assign(values, values + count);
  return std::make_unique<Job>(
      Job{[on = communicator_, numbers, maximum] { return on->reduce(numbers->values, maximum); },
          [numbers](Napi::Env env, Napi::Object object) { deliver(env, object, numbers->values); }});
}

// { values: Float64Array, counts: Int32Array of every rank's, out: Float64Array for all }
std::unique_ptr<NcclRank::Job> NcclRank::gather(Arguments& a) {
  const auto size = static_cast<size_t>(communicator_->size());
  const auto* counts = a.array<const int32_t>("counts", communicator_->size());
  if (a.ok() && size == 0) a.fail("communicator", "an open one");
  if (!a.ok()) return nullptr;
  int64_t total = 0;
  for (size_t r = 0; r < size; ++r) {
    if (counts[r] < 0) return a.fail("counts", "counts of at least 0"), nullptr;
    total += counts[r];
  }
  if (total > INT_MAX) return a.fail("counts", "at most 2^31 - 1 numbers in all"), nullptr;
  const int own = counts[communicator_->rank()];
  const auto* values = a.array<const double>("values", own);
  a.array<double>("out", total);
  if (!a.ok()) return nullptr;
  const auto numbers = std::make_shared<Numbers>();
  numbers->values.assign(values, values + own);
  numbers->counts.assign(counts, counts + size);
  numbers->out.resize(static_cast<size_t>(total));
  return std::make_unique<Job>(
      Job{[on = communicator_, numbers] { return on->gather(numbers->values, numbers->counts, numbers->out); },
          [numbers](Napi::Env env, Napi::Object object) { deliver(env, object, numbers->out); }});
}

// { part: Memory, to: Memory, dtype, rows, width, stride, accumulate, bad: Int32Array }
std::unique_ptr<NcclRank::Job> NcclRank::sum(Arguments& a) {
  const auto dtype = static_cast<DType>(a.integer("dtype", 2));
  const Matrix whole{dtype, a.integer("rows", INT_MAX), a.integer("width", INT_MAX), a.integer("stride", INT_MAX)};
  const Matrix part{DType::kF32, whole.rows, whole.width, whole.width};
  const bool accumulate = a.boolean("accumulate");
  a.array<int32_t>("bad", 1);
  const auto memory = [&](const char* name, const Matrix& shape) {
    auto found = CudaMemory::from(a.object().Get(name));
    const bool fits = found != nullptr && found->context()->device() == communicator_->context()->device() &&
                      shape.stride >= shape.width && shape.elements() * shape.element_size() <= found->bytes();
    if (a.ok() && !fits) a.fail(name, "live memory of the communicator's device that holds the array");
    return found;
  };
  const auto from = memory("part", part), to = memory("to", whole);
  if (!a.ok()) return nullptr;
  const auto numbers = std::make_shared<Numbers>();
  const nccl::DeviceSum sum{
      static_cast<float*>(from->pointer()), {to->pointer(), dtype, whole.stride, accumulate}, whole.rows, whole.width};
  return std::make_unique<Job>(
      Job{[on = communicator_, from, to, sum, numbers] { return on->sum(sum, numbers->bad_row); },
          [numbers](Napi::Env env, Napi::Object object) {
            Arguments out(env, object, nullptr);
            auto* row = out.array<int32_t>("bad", 1);
            if (out.ok()) *row = numbers->bad_row;
          }});
}

// { together }
std::unique_ptr<NcclRank::Job> NcclRank::close(Arguments& a) {
  const bool together = a.boolean("together");
  if (!a.ok()) return nullptr;
  return std::make_unique<Job>(Job{[on = communicator_, together] { return on->close(together); }});
}

// (longest): blocks until the asynchronous calls in progress have ended, but not for more milliseconds.
Napi::Value NcclRank::wait(const Napi::CallbackInfo& info) {
  if (communicator_ == nullptr || !info[0].IsNumber()) return refuse(info, "an open communicator, and (longest)");
  communicator_->wait(nccl::Communicator::Milliseconds(info[0].As<Napi::Number>().Int64Value()));
  return info.Env().Undefined();
}

void NcclRank::dispose(const Napi::CallbackInfo&) { drop(); }

Napi::Object nccl_table(Napi::Env env) {
  Napi::Object table = Napi::Object::New(env);
  table.Set("load", Napi::Function::New<load>(env, "load"));
  table.Set("uniqueId", Napi::Function::New<unique_id>(env, "uniqueId"));
  return table;
}

}  // namespace rlvr::binding
#endif
