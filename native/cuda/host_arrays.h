// The CUDA backend on host memory: each function uploads an op's arrays, runs it on the current device, downloads what
// it wrote and waits. Returns an empty string, or what went wrong in one line; then outputs are unspecified.
#pragma once

#include <string>

#include "ops/advantage_objective.h"
#include "ops/group_info_nce.h"
#include "ops/ratio_scores.h"
#include "ops/sequence_log_probs.h"
#include "ops/token_log_probs.h"

namespace rlvr::cuda::host {

std::string token_log_probs_forward(const TokenLogProbsForward& op);
std::string token_log_probs_backward(const TokenLogProbsBackward& op);
std::string sequence_log_probs_forward(const SequenceLogProbsForward& op);
std::string sequence_log_probs_backward(const SequenceLogProbsBackward& op);
std::string ratio_scores_forward(const RatioScoresForward& op);
std::string ratio_scores_backward(const RatioScoresBackward& op);
std::string group_info_nce(const GroupInfoNce& op);
std::string advantage_objective(const AdvantageObjective& op);

}  // namespace rlvr::cuda::host
