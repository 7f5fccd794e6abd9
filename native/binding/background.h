// Blocking work on a libuv thread, as a promise.
#pragma once

#include <napi.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace rlvr::binding {

class Background : public Napi::AsyncWorker {
 public:
  using Work = std::function<std::string()>;  // returns what went wrong, or an empty string
  using Done = std::function<void()>;         // after work that went well, on the JS thread

  // Every value in `held` stays alive until the promise is settled.
  static Napi::Promise start(Napi::Env env, const std::vector<napi_value>& held, Work work, Done done = {}) {
    Napi::Array references = Napi::Array::New(env, held.size());
    for (size_t i = 0; i < held.size(); ++i) references.Set(static_cast<uint32_t>(i), held[i]);
    auto* worker = new Background(env, references, std::move(work), std::move(done));  // deletes itself when done
    const Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();
    return promise;
  }

 protected:
  void Execute() override {
    const std::string failure = work_();
    if (!failure.empty()) SetError(failure);
  }
  void OnOK() override {
    if (done_) done_();
    deferred_.Resolve(Env().Undefined());
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Background(Napi::Env env, Napi::Object held, Work work, Done done)
      : Napi::AsyncWorker(env, "rlvr-kernels"),
        held_(Napi::Persistent(held)),
        work_(std::move(work)),
        done_(std::move(done)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::ObjectReference held_;
  Work work_;
  Done done_;
  Napi::Promise::Deferred deferred_;
};

}  // namespace rlvr::binding
