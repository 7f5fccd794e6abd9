// Blocking work on a libuv thread, as a promise.
#pragma once

#include <napi.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "binding/deferred.h"

namespace rlvr::binding {

class Background : public Napi::AsyncWorker {
 public:
  using Work = std::function<std::string()>;  // returns what went wrong, or an empty string
  using Done = std::function<void()>;         // after work that went well, on the JS thread

  // Every value in `held` stays alive until the promise is settled. Empty, and nothing is done, while the environment
  // is being torn down.
  static Napi::Value start(Napi::Env env, const std::vector<napi_value>& held, Work work, Done done = {}) {
    Napi::Array references = Napi::Array::New(env, held.size());
    for (size_t i = 0; i < held.size(); ++i) references.Set(static_cast<uint32_t>(i), held[i]);
    auto* worker = new Background(env, references, std::move(work), std::move(done));  // deletes itself when done
    const Napi::Value promise = worker->deferred_.promise();
    if (promise.IsEmpty())
      delete worker;
    else
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
    deferred_.resolve();
  }
  void OnError(const Napi::Error& error) override { deferred_.reject(error.Value()); }

 private:
  Background(Napi::Env env, Napi::Object held, Work work, Done done)
      : Napi::AsyncWorker(env, "rlvr-kernels"),
        held_(Napi::Persistent(held)),
        work_(std::move(work)),
        done_(std::move(done)),
        deferred_(env) {}

  Napi::ObjectReference held_;
  Work work_;
  Done done_;
  Deferred deferred_;
};

}  // namespace rlvr::binding
