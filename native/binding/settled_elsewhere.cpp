#include "binding/settled_elsewhere.h"

#include <utility>

#include "binding/deferred.h"

namespace rlvr::binding {
namespace {

// What a call needs at its end, on the JS thread, where it is also deleted.
struct Call {
  Napi::ObjectReference held;
  std::function<void(Napi::Env, Napi::Object)> done;
  Deferred deferred;
};

void settle(Napi::Env env, Napi::Function, Call* call, void*) {
  if (env == nullptr) return;  // being torn down
  call->done(env, call->held.Value());
  if (env.IsExceptionPending())
    call->deferred.reject(env.GetAndClearPendingException().Value());
  else
    call->deferred.resolve();
}

using Settling = Napi::TypedThreadSafeFunction<Call, void, settle>;

}  // namespace

Napi::Value settled_elsewhere(Napi::Env env, Napi::Object held, std::function<void(Napi::Env, Napi::Object)> done,
                              std::function<void()>& say) {
  auto* call = new Call{Napi::Persistent(held), std::move(done), Deferred(env)};
  const Napi::Value promise = call->deferred.promise();
  const auto remove = [](Napi::Env, void*, Call* ended) { delete ended; };
  Settling settling = Settling::New(env, "rlvr-kernels", 0, 1, call, remove);
  say = [settling]() mutable {
    settling.NonBlockingCall();
    settling.Release();
  };
  return promise;
}

}  // namespace rlvr::binding
