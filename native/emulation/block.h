// One block at a time: its threads as fibers, its barriers and warp operations. Internal.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "emulation/device.h"
#include "emulation/fiber.h"
#include "emulation/launch_record.h"

namespace rlvr::emulation::detail {

enum class ThreadState : uint8_t { kFresh, kReady, kAtBarrier, kAtWarp, kDone };

struct Thread {
  uint3 index;
  unsigned number;  // linear, x fastest
  ThreadState state;
  Fiber* fiber;
  Location where;  // of the operation it waits at
  BlockOp block_op;
  WarpRequest request;
  uint64_t answer;
};

// The order in which threads of a block, and blocks of a grid, take their turns.
class Order {
 public:
  explicit Order(const std::string& text);
  void shuffle(std::vector<unsigned>& items, uint64_t salt);
  // The block that runs as number i of `count`.
  uint64_t block(uint64_t i, uint64_t count);
  bool random() const { return kind_ == Kind::kRandom; }

 private:
  enum class Kind { kForward, kReverse, kRandom };
  uint64_t next();
  Kind kind_;
  uint64_t seed_ = 0;
  uint64_t state_ = 0;
  std::vector<unsigned> blocks_;
};

class Block {
 public:
  void run(const Launch& launch, uint3 index, uint64_t number, Order& order);

  int barrier(BlockOp op, int predicate, const Location& where);
  uint64_t warp_operation(const WarpRequest& request, const Location& where);
  void yield();
  [[noreturn]] void fail(const std::string& what) const;  // names kernel, block and running thread

 private:
  static void fiber_main();
  void run_threads_on_this_fiber();
  void finish_thread();
  Thread* next_thread();
  void wait();  // until the running thread is ready again
  void resume(Thread& thread, Fiber& from);
  void make_current(Thread& thread);
  Fiber* free_fiber();
  void new_turn_order();

  void release_barrier();
  void check_warp_request(const WarpRequest& request) const;
  bool complete_warp(unsigned warp, unsigned mask);
  uint64_t warp_answer(const Thread& thread, unsigned votes, unsigned first) const;
  Thread& lane(unsigned warp, unsigned lane);
  [[noreturn]] void deadlock() const;
  std::string thread_name(const Thread& thread) const;
  std::string waits(const Thread& thread) const;

  const Launch* launch_ = nullptr;
  uint64_t number_ = 0;
  Order* order_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<unsigned> turns_;       // thread numbers in the order of their turns
  size_t cursor_ = 0;                 // in turns_
  std::vector<unsigned> at_warp_;     // per warp: lanes that wait at a warp operation
  std::vector<unsigned> live_lanes_;  // per warp: lanes that exist and have not ended
  unsigned live_ = 0;
  unsigned at_barrier_ = 0;
  unsigned votes_ = 0;
  int barrier_answer_ = 0;
  uint64_t barriers_ = 0;
  Thread* current_ = nullptr;
  Fiber* current_fiber_ = nullptr;
  Fiber* host_ = nullptr;
  std::deque<Fiber> fibers_;
  std::vector<Fiber*> free_fibers_;
};

void run_block(const Launch& launch, uint3 index, uint64_t number, Order& order);

}  // namespace rlvr::emulation::detail
