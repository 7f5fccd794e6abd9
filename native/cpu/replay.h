// The token level under sampling replay: what a row keeps is gathered, and is the row for the kernels of every instruction set.
#pragma once

#include "ops/token_log_probs.h"

namespace rlvr::cpu {

// Rows [begin, end), as those of TokenLogProbsRows.
void replay_forward(const TokenLogProbsForward& op, int64_t begin, int64_t end);
int64_t replay_backward(const TokenLogProbsBackward& op, int64_t begin, int64_t end);

// How many elements, read in order, take as long as what is read of a row, on average.
int64_t elements_in_order(const Replay& replay, int64_t tokens, int64_t vocab);

}  // namespace rlvr::cpu
