// The CPU backend: one function per op, see native/ops/*.h for what each computes. Blocking; uses the
// thread pool; touches no memory but what the argument struct names.
#pragma once

#include "ops/advantage_objective.h"
#include "ops/group_info_nce.h"
#include "ops/linear_log_probs.h"
#include "ops/ratio_scores.h"
#include "ops/sample_tokens.h"
#include "ops/sequence_log_probs.h"
#include "ops/token_log_probs.h"

namespace rlvr::cpu {

void token_log_probs_forward(const TokenLogProbsForward& op);
void token_log_probs_backward(const TokenLogProbsBackward& op);
void token_log_probs_one_pass(const TokenLogProbsOnePass& op);
void zero_rows(const ZeroRows& op);
void linear_log_probs_forward(const LinearLogProbsForward& op);
void linear_log_probs_backward(const LinearLogProbsBackward& op);
void sequence_log_probs_forward(const SequenceLogProbsForward& op);
void sequence_log_probs_backward(const SequenceLogProbsBackward& op);
void ratio_scores_forward(const RatioScoresForward& op);
void ratio_scores_backward(const RatioScoresBackward& op);
void group_info_nce(const GroupInfoNce& op);
void advantage_objective(const AdvantageObjective& op);
void sample_tokens(const SampleTokens& op);
void sample_tokens_kept(const SampleTokensKept& op);

}  // namespace rlvr::cpu
