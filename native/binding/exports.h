// What addon.cpp puts into the export table: one function per file of this folder.
#pragma once

#include <napi.h>

namespace rlvr::binding {

// The ops of each backend; `cuda` stays empty in a build without it.
struct Exports {
  Napi::Object cpu;
  Napi::Object cuda;
};

void export_token_log_probs(Napi::Env env, const Exports& exports);
void export_linear_log_probs(Napi::Env env, const Exports& exports);
void export_sequence_log_probs(Napi::Env env, const Exports& exports);
void export_ratio_scores(Napi::Env env, const Exports& exports);
void export_group_info_nce(Napi::Env env, const Exports& exports);
void export_advantage_objective(Napi::Env env, const Exports& exports);
void export_sample_tokens(Napi::Env env, const Exports& exports);
void export_memory(Napi::Env env, const Exports& exports);
void export_diagnostics(Napi::Env env, const Exports& exports);
void export_cuda_device(Napi::Env env, const Exports& exports);
void export_mpi(Napi::Env env, const Exports& exports);

}  // namespace rlvr::binding
