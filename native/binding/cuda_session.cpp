#ifdef RLVR_HAVE_CUDA
#include "binding/cuda_session.h"

#include "binding/background.h"

namespace rlvr::binding {
namespace {

constexpr napi_type_tag kSessionTag = {0x77b6a3a5d2b14d0a, 0xb15f3c0e6c3d9e42};

}  // namespace

Napi::Function CudaSession::define(Napi::Env env) {
  return DefineClass(env, "Session",
                     {
                         InstanceMethod<&CudaSession::upload<false>>("upload"),
                         InstanceMethod<&CudaSession::upload<true>>("uploadAsync"),
                         InstanceMethod<&CudaSession::read<false>>("read"),
                         InstanceMethod<&CudaSession::read<true>>("readAsync"),
                         InstanceMethod<&CudaSession::flush>("flush"),
                         InstanceMethod<&CudaSession::close>("close"),
                     });
}

Napi::Value CudaSession::create(Napi::Env env, std::shared_ptr<cuda::DeviceContext> context) {
  return CudaClasses::of(env).session.New({Napi::External<std::shared_ptr<cuda::DeviceContext>>::New(env, &context)});
}

CudaSession::CudaSession(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CudaSession>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    Napi::TypeError::New(info.Env(), "rlvr-kernels: a session comes from a device").ThrowAsJavaScriptException();
    return;
  }
  using Context = std::shared_ptr<cuda::DeviceContext>;
  session_ = std::make_shared<cuda::Session>(*info[0].As<Napi::External<Context>>().Data());
  info.This().As<Napi::Object>().TypeTag(&kSessionTag);
}

CudaSession* CudaSession::from(const Napi::Value& value) {
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kSessionTag)) {
    CudaSession* session = Unwrap(value.As<Napi::Object>());
    if (session->session_ != nullptr) return session;
  }
  Napi::TypeError::New(value.Env(), "rlvr-kernels native call: expected an open session").ThrowAsJavaScriptException();
  return nullptr;
}

void CudaSession::defer(Step step, Napi::Object arguments) {
  held_.push_back(Napi::Persistent(arguments));
  steps_.emplace_back(step, held_.size() - 1);
}

void CudaSession::flush(Napi::Env env) {
  const auto steps = std::exchange(steps_, {});
  if (session_ == nullptr || steps.empty()) return;
  throw_if_failed(env, session_->place());
  for (const auto& [step, arguments] : steps)
    if (!env.IsExceptionPending()) step(*this, env, held_[arguments].Value());
  if (!env.IsExceptionPending()) throw_if_failed(env, session_->flush());
}

// What was not flushed is not run: nobody waits for it.
void CudaSession::close(const Napi::CallbackInfo&) {
  session_.reset();
  steps_.clear();
  held_.clear();
}

// (host matrix)
template <bool kAsync>
Napi::Value CudaSession::upload(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  cuda::HostMatrix host{};
  if (from(info.This()) == nullptr || !host_matrix(info, host)) return env.Undefined();
  if (session_->has(host)) return env.Undefined();
  held_.push_back(Napi::Persistent(info[0].As<Napi::Object>()));
  session_->mirror(host);
  const auto work = [session = session_, host] { return cuda::describe(session->upload(host)); };
  if constexpr (kAsync) return Background::start(env, {info.This()}, work);
  const std::string failure = work();
  if (!failure.empty()) Napi::Error::New(env, failure).ThrowAsJavaScriptException();
  return env.Undefined();
}

// (arrays): copies back those that have a mirror, and waits for everything enqueued so far.
template <bool kAsync>
Napi::Value CudaSession::read(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (from(info.This()) == nullptr) return env.Undefined();
  flush(env);
  if (env.IsExceptionPending()) return env.Undefined();
  const Napi::Array arrays = info[0].As<Napi::Array>();
  for (uint32_t i = 0; info[0].IsArray() && i < arrays.Length(); ++i) {
    const Napi::Value value = arrays[i];
    void* data = nullptr;
    napi_typedarray_type type = napi_int8_array;
    size_t length = 0;
    if (!value.IsTypedArray() ||
        napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok)
      continue;
    session_->request(data, static_cast<int64_t>(value.As<Napi::TypedArray>().ByteLength()));
  }
  session_->collect();
  const auto work = [session = session_] { return cuda::describe(session->wait()); };
  const auto done = [session = session_] { session->deliver(); };
  if constexpr (kAsync) return Background::start(env, {info.This(), info[0]}, work, done);
  const std::string failure = work();
  done();
  if (!failure.empty()) Napi::Error::New(env, failure).ThrowAsJavaScriptException();
  return env.Undefined();
}

void* SessionPlacement::matrix(void* host, Matrix& shape) {
  void* place = session_.mirror({host, shape.rows, shape.width, shape.stride, shape.element_size()});
  shape.stride = shape.width;
  return place;
}

void* SessionPlacement::matrix(const Napi::Value& value, const Matrix& shape, const char*& expected) {
  const auto memory = CudaMemory::from(value);
  expected = "a typed array, or live device memory";
  if (memory == nullptr) return nullptr;
  expected = "memory of the session's device";
  if (memory->context()->device() != session_.context().device()) return nullptr;
  expected = "more device memory";
  return shape.elements() * shape.element_size() <= memory->bytes() ? memory->pointer() : nullptr;
}

}  // namespace rlvr::binding
#endif
