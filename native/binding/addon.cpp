#include <napi.h>

#include "binding/exports.h"
#include "cpu/cpu_features.h"
#include "cpu/thread_pool.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  if (const char* reason = rlvr::simd_missing()) {
    Napi::Error::New(env, reason).ThrowAsJavaScriptException();
    return exports;
  }
  rlvr::acquire_thread_pool();
  env.AddCleanupHook([] { rlvr::release_thread_pool(); });
  const rlvr::binding::Exports backends{exports, Napi::Object::New(env)};
  exports.Set("cuda", backends.cuda);
  rlvr::binding::export_token_log_probs(env, backends);
  rlvr::binding::export_linear_log_probs(env, backends);
  rlvr::binding::export_sequence_log_probs(env, backends);
  rlvr::binding::export_ratio_scores(env, backends);
  rlvr::binding::export_group_info_nce(env, backends);
  rlvr::binding::export_advantage_objective(env, backends);
  rlvr::binding::export_sample_tokens(env, backends);
  rlvr::binding::export_memory(env, backends);
  rlvr::binding::export_diagnostics(env, backends);
  rlvr::binding::export_cuda_device(env, backends);
  rlvr::binding::export_mpi(env, backends);
  return exports;
}

}  // namespace

NODE_API_MODULE(rlvr_kernels, init)
