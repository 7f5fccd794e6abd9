// What addon.cpp puts into the export table: one function per file of this folder.
#pragma once

#include <napi.h>

namespace rlvr::binding {

void export_token_log_probs(Napi::Env env, Napi::Object exports);
void export_sequence_log_probs(Napi::Env env, Napi::Object exports);
void export_ratio_scores(Napi::Env env, Napi::Object exports);
void export_group_info_nce(Napi::Env env, Napi::Object exports);
void export_advantage_objective(Napi::Env env, Napi::Object exports);
void export_diagnostics(Napi::Env env, Napi::Object exports);

}  // namespace rlvr::binding
