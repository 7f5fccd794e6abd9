// A promise for what other threads do, for as long as they take: they say when it is done.
#pragma once

#include <napi.h>

#include <functional>

namespace rlvr::binding {

// `done` runs on the JS thread, and may throw there. `held`, which it gets, stays alive until the promise is settled.
// `say` is to be called once, on any thread. The promise is empty while the environment is being torn down.
Napi::Value settled_elsewhere(Napi::Env env, Napi::Object held, std::function<void(Napi::Env, Napi::Object)> done,
                              std::function<void()>& say);

}  // namespace rlvr::binding
