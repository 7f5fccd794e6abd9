// What tests look at in the emulated CUDA, and how they make it fail. Test builds only.
#pragma once

#ifdef RLVR_CUDA_EMULATION
#include <napi.h>

namespace rlvr::binding {

Napi::Object emulation_controls(Napi::Env env);

}  // namespace rlvr::binding
#endif
