#include <napi.h>

#include "binding/exports.h"
#include "cpu/thread_pool.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  rlvr::acquire_thread_pool();
  env.AddCleanupHook([] { rlvr::release_thread_pool(); });
  rlvr::binding::export_token_log_probs(env, exports);
  rlvr::binding::export_sequence_log_probs(env, exports);
  rlvr::binding::export_ratio_scores(env, exports);
  rlvr::binding::export_group_info_nce(env, exports);
  rlvr::binding::export_advantage_objective(env, exports);
  rlvr::binding::export_diagnostics(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(rlvr_kernels, init)
