// A promise that can be settled. Unlike Napi::Promise::Deferred it knows when there is none: while a worker thread is
// being terminated no promise can be made, and Napi's class then returns an uninitialised value.
#pragma once

#include <napi.h>

namespace rlvr::binding {

class Deferred {
 public:
  explicit Deferred(napi_env env) : env_(env) {
    if (napi_create_promise(env, &deferred_, &promise_) != napi_ok) promise_ = nullptr;
  }

  // Empty when there is none; for use in the call that made it.
  Napi::Value promise() const { return Napi::Value(env_, promise_); }

  void resolve() const {
    napi_value undefined = nullptr;
    napi_get_undefined(env_, &undefined);
    napi_resolve_deferred(env_, deferred_, undefined);
  }
  void reject(napi_value reason) const { napi_reject_deferred(env_, deferred_, reason); }

 private:
  napi_env env_;
  napi_deferred deferred_ = nullptr;
  napi_value promise_ = nullptr;
};

}  // namespace rlvr::binding
