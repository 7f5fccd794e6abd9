// The thread pool and the ops that run on it, under ThreadSanitizer: many callers at once, holders that come and go,
// and results that must not depend on any of it. Plain C++, no Node: `npm run test:tsan`.
#include "cpu/thread_pool.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "cpu/ops.h"

namespace {

void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::exit(1);
}

void every_index_once(int64_t count, int64_t grain) {
  std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
  rlvr::parallel_for(count, rlvr::kBlockNanoseconds / static_cast<double>(grain), [&](int64_t begin, int64_t end) {
    check(end - begin <= grain, "a block is no larger than the grain");
    for (int64_t i = begin; i < end; ++i) visits[static_cast<size_t>(i)].fetch_add(1);
  });
  for (const auto& visited : visits) check(visited.load() == 1, "every index is visited once");
}

struct Batch {
  static constexpr int64_t kTokens = 24;
  static constexpr int64_t kVocab = 3001;
  std::vector<float> logits = std::vector<float>(kTokens * kVocab);
  std::vector<int32_t> targets = std::vector<int32_t>(kTokens);

  Batch() {
    uint32_t state = 1;
    for (float& x : logits) {
      state = state * 1664525u + 1013904223u;
      x = static_cast<float>(state >> 8) / static_cast<float>(1 << 22) - 2.0f;
    }
    for (int64_t t = 0; t < kTokens; ++t) targets[static_cast<size_t>(t)] = static_cast<int32_t>(t * 97 % kVocab);
  }

  std::vector<double> log_probs(rlvr::CancelFlag cancel = nullptr) const {
    std::vector<double> result(kTokens);
    std::vector<double> log_sum_exp(kTokens);
    std::vector<uint8_t> kept(kTokens);
    int32_t non_finite = 0;
    rlvr::TokenLogProbsForward op{};
    op.logits = logits.data();
    op.tokens = kTokens;
    op.vocab = kVocab;
    op.row_stride = kVocab;
    op.targets = targets.data();
    op.temperature = 1;
    op.log_probs = result.data();
    op.log_sum_exp = log_sum_exp.data();
    op.kept = kept.data();
    op.non_finite = &non_finite;
    op.cancel = cancel;
    rlvr::cpu::token_log_probs_forward(op);
    return result;
  }
};

void callers_share_the_pool(const Batch& batch, const std::vector<double>& expected) {
  std::vector<std::thread> callers;
  for (int c = 0; c < 6; ++c)
    callers.emplace_back([&, c] {
      for (int round = 0; round < 20; ++round) {
        rlvr::acquire_thread_pool();
        every_index_once(100 + c, 1 + round % 7);
        check(batch.log_probs() == expected, "the same bits, whoever else is running");
        rlvr::release_thread_pool();
      }
    });
  for (std::thread& caller : callers) caller.join();
}

}  // namespace

int main() {
  setenv("RLVR_THREADS", "4", 1);
  const Batch batch;
  const std::vector<double> alone = batch.log_probs();  // nobody holds the pool: one thread
  check(std::isfinite(alone[0]) && alone[0] < 0, "log-probs are computed");

  rlvr::acquire_thread_pool();
  for (int64_t count : {0, 1, 2, 5, 1000}) every_index_once(count, 1);
  every_index_once(1000, 64);
  check(batch.log_probs() == alone, "the same bits on 4 threads as on 1");
  const int32_t stop = 1;
  check(batch.log_probs(&stop) == std::vector<double>(Batch::kTokens), "a cancelled op writes nothing");
  rlvr::release_thread_pool();

  callers_share_the_pool(batch, alone);
  std::puts("thread pool: all checks passed");
  return 0;
}
