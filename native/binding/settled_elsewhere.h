// A promise for what other threads do, for as long as they take: they say when it is done.
#pragma once

#include <napi.h>

#include <functional>
#include <utility>

#include "binding/deferred.h"

namespace rlvr::binding {

class SettledElsewhere {
 public:
  using Done = std::function<void(Napi::Env, Napi::Object held)>;  // on the JS thread; may throw there

  // `held` stays alive until the promise is settled. `say` is to be called once, on any thread. The promise is empty while
  // the environment is being torn down.
  static Napi::Value start(Napi::Env env, Napi::Object held, Done done, std::function<void()>& say) {
    auto* call = new SettledElsewhere(env, held, std::move(done));
    const Napi::Value promise = call->deferred_.promise();
    const auto remove = [](Napi::Env, void*, SettledElsewhere* ended) { delete ended; };
    Settling settling = Settling::New(env, "rlvr-kernels", 0, 1, call, remove);
    say = [settling]() mutable {
      settling.NonBlockingCall();
      settling.Release();
    };
    return promise;
  }

 private:
  SettledElsewhere(Napi::Env env, Napi::Object held, Done done)
      : held_(Napi::Persistent(held)), done_(std::move(done)), deferred_(env) {}

  static void settle(Napi::Env env, Napi::Function, SettledElsewhere* call, void*) {
    if (env == nullptr) return;  // being torn down
    call->done_(env, call->held_.Value());
    if (env.IsExceptionPending())
      call->deferred_.reject(env.GetAndClearPendingException().Value());
    else
      call->deferred_.resolve();
  }

  using Settling = Napi::TypedThreadSafeFunction<SettledElsewhere, void, settle>;

  Napi::ObjectReference held_;
  Done done_;
  Deferred deferred_;
};

}  // namespace rlvr::binding
