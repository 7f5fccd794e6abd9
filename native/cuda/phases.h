// The steps between the log-probs and their gradient: small, and each in need of what the one before it has written. A
// launch costs microseconds, more than most of them take. So small ones that follow each other are one launch of one
// block (phase_queue.h), and a large one is a launch of its own, with as many blocks as it has work for. What a phase
// computes does not depend on which of the two it is.
#pragma once

#include "ops/advantage_objective.h"
#include "ops/group_info_nce.h"
#include "ops/ratio_scores.h"
#include "ops/sequence_log_probs.h"
#include "ops/token_log_probs.h"

namespace rlvr::cuda {

// The loss, from the losses of the groups.
struct GroupTotal {
  GroupInfoNce op;
};

// Looks for rows that could only be written wrong, before any is written.
struct UpstreamCheck {
  TokenRowsBackward op;
};

struct Phase {
  enum class Kind : int32_t {
    kSequenceForward,
    kSequenceBackward,
    kRatioForward,
    kRatioBackward,
    kGroups,
    kGroupTotal,
    kAdvantages,
    kUpstreamCheck,
  };
  union Op {
    SequenceLogProbsForward sequence_forward;
    SequenceLogProbsBackward sequence_backward;
    RatioScoresForward ratio_forward;
    RatioScoresBackward ratio_backward;
    GroupInfoNce groups;
    GroupTotal group_total;
    AdvantageObjective advantages;
    UpstreamCheck upstream_check;
  };
  Kind kind;
  Op op;
};

constexpr int kMaxPhases = 12;  // of a launch; a loss with all its terms has ten

struct Phases {
  Phase items[kMaxPhases];
  int count;
};
static_assert(sizeof(Phases) <= 4096, "the arguments of a kernel");

constexpr int kPhaseThreads = 512;  // of the one block

// The most that one block does in about the time of a launch: some rounds of its warps. Predicted, not measured.
constexpr int64_t kSmallTokens = int64_t{1} << 14;
constexpr int64_t kSmallRatioTokens = int64_t{1} << 12;  // each takes an exp in float64
constexpr int64_t kSmallSequences = 128;
constexpr int64_t kSmallGroups = 64;

}  // namespace rlvr::cuda
