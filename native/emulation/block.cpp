#include "emulation/block.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "emulation/runtime_state.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace rlvr::emulation::detail {
namespace {

Block& block() {
  static auto* const instance = new Block;  // its fibers never end
  return *instance;
}

std::string triple(const uint3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}
std::string hex(uint64_t v) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(v));
  return text;
}
std::string place(const Location& where) { return std::string(where.file_name()) + ":" + std::to_string(where.line()); }

bool same(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

const char* name(BlockOp op) {
  constexpr const char* kNames[] = {"__syncthreads", "__syncthreads_or", "__syncthreads_and", "__syncthreads_count"};
  return kNames[static_cast<int>(op)];
}
const char* name(WarpOp op) {
  constexpr const char* kNames[] = {"__syncwarp",      "__shfl_sync",   "__shfl_up_sync", "__shfl_down_sync",
                                    "__shfl_xor_sync", "__ballot_sync", "__any_sync",     "__all_sync"};
  return kNames[static_cast<int>(op)];
}

}  // namespace

// ---- turns
// -----------------------------------------------------------------------------------------------------------

Order::Order(const std::string& text) {
  kind_ = text == "forward" ? Kind::kForward : text == "reverse" ? Kind::kReverse : Kind::kRandom;
  if (kind_ != Kind::kRandom) return;
  char* end = nullptr;
  seed_ = std::strtoull(text.c_str(), &end, 0);
  if (text.empty() || *end != '\0') die("RLVR_EMULATION_ORDER is forward, reverse or a number, not '" + text + "'");
}

uint64_t Order::next() {  // splitmix64
  uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

void Order::shuffle(std::vector<unsigned>& items, uint64_t salt) {
  std::iota(items.begin(), items.end(), 0u);
  if (kind_ == Kind::kReverse) std::reverse(items.begin(), items.end());
  if (kind_ != Kind::kRandom) return;
  state_ = seed_ * 0x100000001b3ull ^ salt;
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[next() % i]);
}

uint64_t Order::block(uint64_t i, uint64_t count) {
  if (kind_ == Kind::kForward) return i;
  if (kind_ == Kind::kReverse) return count - 1 - i;
  if (blocks_.size() != count) {
    blocks_.resize(count);
    shuffle(blocks_, 0xb10c);
  }
  return blocks_[i];
}

void Block::new_turn_order() {
  if (barriers_ == 0 || order_->random()) order_->shuffle(turns_, number_ << 20 | barriers_);
  cursor_ = 0;
}

Thread* Block::next_thread() {
  for (size_t i = 0; i < turns_.size(); ++i) {
    Thread& thread = threads_[turns_[cursor_]];
    if (++cursor_ == turns_.size()) cursor_ = 0;
    if (thread.state == ThreadState::kFresh || thread.state == ThreadState::kReady) return &thread;
  }
  return nullptr;
}

// ---- fibers
// ----------------------------------------------------------------------------------------------------------

void Block::run(const Launch& launch, uint3 index, uint64_t number, Order& order) {
  launch_ = &launch;
  number_ = number;
  order_ = &order;
  blockIdx = index;
  blockDim = launch.block;
  gridDim = launch.grid;
  const unsigned count = launch.block.x * launch.block.y * launch.block.z;
  threads_.resize(count);
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = threads_[i];
    thread.index = {i % launch.block.x, i / launch.block.x % launch.block.y, i / (launch.block.x * launch.block.y)};
    thread.number = i;
    thread.state = ThreadState::kFresh;
    thread.fiber = nullptr;
  }
  turns_.resize(count);
  at_warp_.assign((count + 31) / 32, 0);
  live_lanes_.assign(at_warp_.size(), 0xffffffffu);
  if (count % 32 != 0) live_lanes_.back() = (1u << count % 32) - 1;
  live_ = count;
  at_barrier_ = votes_ = 0;
  barriers_ = 0;
  new_turn_order();
  Fiber host;
  host_ = &host;
  resume(*next_thread(), host);
}

Fiber* Block::free_fiber() {
  if (free_fibers_.empty()) return &fibers_.emplace_back(&fiber_main, fibers_.size());
  Fiber* const fiber = free_fibers_.back();
  free_fibers_.pop_back();
  return fiber;
}

void Block::make_current(Thread& thread) {
  current_ = &thread;
  threadIdx = thread.index;
}

void Block::resume(Thread& thread, Fiber& from) {
  if (thread.fiber == nullptr) thread.fiber = free_fiber();
  make_current(thread);
  current_fiber_ = thread.fiber;
  if (current_fiber_ != &from) from.switch_to(*current_fiber_);
}

void Block::fiber_main() {
  block().current_fiber_->started();
  block().run_threads_on_this_fiber();
  std::abort();
}

// A thread that ends without having waited leaves its fiber to the next one: kernels without barriers never switch.
void Block::run_threads_on_this_fiber() {
  Fiber* const self = current_fiber_;
  for (;;) {
    launch_->run_thread(*launch_);
    finish_thread();
    Thread* const next = next_thread();
    if (next == nullptr && live_ != 0) deadlock();
    if (next != nullptr && next->state == ThreadState::kFresh) {
      next->fiber = self;
      make_current(*next);
      continue;
    }
    free_fibers_.push_back(self);
    if (next != nullptr) {
      resume(*next, *self);
    } else {
      current_fiber_ = host_;
      self->switch_to(*host_);
    }
  }
}

void Block::finish_thread() {
  current_->state = ThreadState::kDone;
  --live_;
  const unsigned warp = current_->number / 32;
  live_lanes_[warp] &= ~(1u << current_->number % 32);
  for (unsigned waiting = at_warp_[warp]; waiting != 0; waiting &= waiting - 1) {
    const Thread& other = lane(warp, static_cast<unsigned>(std::countr_zero(waiting)));
    if ((other.request.mask >> (current_->number % 32) & 1u) != 0)
      fail("the thread ended, but its lane is in the mask of " + thread_name(other) + ", which " + waits(other));
  }
  if (live_ != 0 && at_barrier_ == live_) release_barrier();
}

void Block::wait() {
  Fiber& self = *current_->fiber;
  Thread* const next = next_thread();
  if (next == nullptr) deadlock();
  resume(*next, self);
}

void Block::yield() {
  current_->state = ThreadState::kReady;
  wait();
}

// ---- barriers
// --------------------------------------------------------------------------------------------------------

int Block::barrier(BlockOp op, int predicate, const Location& where) {
  current_->block_op = op;
  current_->where = where;
  current_->state = ThreadState::kAtBarrier;
  votes_ += predicate != 0;
  if (++at_barrier_ == live_) release_barrier();
  wait();
  return barrier_answer_;
}

void Block::release_barrier() {
  const Thread* first = nullptr;
  for (Thread& thread : threads_) {
    if (thread.state != ThreadState::kAtBarrier) continue;
    if (first == nullptr) first = &thread;
    if (thread.block_op != first->block_op || !same(thread.where, first->where))
      fail("divergent barrier: " + thread_name(*first) + " " + waits(*first) + ", but " + thread_name(thread) + " " +
           waits(thread));
    thread.state = ThreadState::kReady;
  }
  const bool all = votes_ == at_barrier_;
  const int answers[] = {0, votes_ != 0, all, static_cast<int>(votes_)};
  barrier_answer_ = answers[static_cast<int>(first->block_op)];
  at_barrier_ = votes_ = 0;
  ++barriers_;
  new_turn_order();
}

// ---- warp operations
// -------------------------------------------------------------------------------------------------

Thread& Block::lane(unsigned warp, unsigned lane) { return threads_[size_t{warp} * 32 + lane]; }

void Block::check_warp_request(const WarpRequest& request) const {
  const unsigned own = current_->number % 32;
  const size_t first = current_->number - own;
  const auto bad = [&](const std::string& what) {
    fail(std::string(name(request.op)) + " with mask " + hex(request.mask) + ": " + what);
  };
  if ((request.mask >> own & 1u) == 0) bad("the mask lacks the calling lane");
  if (request.width < 1 || request.width > 32 || !std::has_single_bit(static_cast<unsigned>(request.width)))
    bad("width " + std::to_string(request.width) + " is not a power of two up to 32");
  const unsigned missing = request.mask & ~live_lanes_[current_->number / 32];
  if (missing != 0) {
    const auto lane = static_cast<unsigned>(std::countr_zero(missing));
    if (first + lane >= threads_.size()) bad("the block has no thread for lane " + std::to_string(lane));
    bad("the mask names " + thread_name(threads_[first + lane]) + ", which has ended");
  }
}

uint64_t Block::warp_operation(const WarpRequest& request, const Location& where) {
  const unsigned warp = current_->number / 32;
  current_->request = request;
  current_->where = where;
  check_warp_request(request);
  current_->state = ThreadState::kAtWarp;
  at_warp_[warp] |= 1u << (current_->number % 32);
  if (complete_warp(warp, request.mask)) return current_->answer;
  Thread& self = *current_;
  wait();
  return self.answer;
}

// Answers every lane of the mask once all of them wait at the same operation.
bool Block::complete_warp(unsigned warp, unsigned mask) {
  if ((at_warp_[warp] & mask) != mask) return false;
  unsigned votes = 0;
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const auto number = static_cast<unsigned>(std::countr_zero(rest));
    const Thread& thread = lane(warp, number);
    if (thread.request.op != current_->request.op || thread.request.mask != mask) return false;
    votes |= static_cast<unsigned>(thread.request.value & 1u) << number;
  }
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    Thread& thread = lane(warp, static_cast<unsigned>(std::countr_zero(rest)));
    thread.answer = warp_answer(thread, votes, warp * 32);
    thread.state = ThreadState::kReady;
  }
  at_warp_[warp] &= ~mask;
  return true;
}

uint64_t Block::warp_answer(const Thread& thread, unsigned votes, unsigned first) const {
  const WarpRequest& request = thread.request;
  const int own = static_cast<int>(thread.number % 32);
  const int base = own & ~(request.width - 1);
  int source = own;
  switch (request.op) {
    case WarpOp::kSync:
      return 0;
    case WarpOp::kBallot:
      return votes;
    case WarpOp::kAny:
      return votes != 0;
    case WarpOp::kAll:
      return votes == request.mask;
    case WarpOp::kShuffle:
      source = base + (request.operand & (request.width - 1));
      break;
    case WarpOp::kShuffleUp:
      source = own - request.operand;
      if (request.operand < 0 || source < base) source = own;
      break;
    case WarpOp::kShuffleDown:
      source = own + request.operand;
      if (request.operand < 0 || request.operand > 31 || source >= base + request.width) source = own;
      break;
    case WarpOp::kShuffleXor:
      source = own ^ request.operand;
      if (source < 0 || source >= base + request.width) source = own;
      break;
  }
  if ((request.mask >> source & 1u) == 0)
    fail(thread_name(thread) + " " + waits(thread) + " and reads lane " + std::to_string(source) +
         ", which is not in the mask");
  return threads_[first + static_cast<unsigned>(source)].request.value;
}

// ---- messages
// --------------------------------------------------------------------------------------------------------

std::string Block::thread_name(const Thread& thread) const { return "thread " + triple(thread.index); }

std::string Block::waits(const Thread& thread) const {
  switch (thread.state) {
    case ThreadState::kAtBarrier:
    case ThreadState::kReady:
      return std::string("waits at ") + name(thread.block_op) + " in " + place(thread.where);
    case ThreadState::kAtWarp:
      return std::string("waits at ") + name(thread.request.op) + " with mask " + hex(thread.request.mask) + " in " +
             place(thread.where);
    case ThreadState::kDone:
      return "has ended";
    default:
      return "has not started";
  }
}

void Block::fail(const std::string& what) const {
  die("kernel " + symbol_name(launch_->kernel) + ", block " + triple(blockIdx) + ", thread " + triple(current_->index) +
      ": " + what);
}

void Block::deadlock() const {
  constexpr size_t kNamed = 8;
  std::string text = "no thread can go on: " + std::to_string(at_barrier_) + " of " + std::to_string(live_) +
                     " live threads wait at a block barrier, the others at warp operations" +
                     (at_barrier_ != 0 ? " (divergent barrier)" : "");
  // One example of every place.
  std::vector<std::string> seen;
  for (const Thread& thread : threads_) {
    const std::string state = waits(thread);
    if (seen.size() == kNamed || std::find(seen.begin(), seen.end(), state) != seen.end()) continue;
    seen.push_back(state);
    text += "\n  " + thread_name(thread) + " " + state;
  }
  fail(text);
}

// ---- entries
// ---------------------------------------------------------------------------------------------------------

int block_barrier(BlockOp op, int predicate, const Location& where) { return block().barrier(op, predicate, where); }
uint64_t warp_operation(const WarpRequest& request, const Location& where) {
  return block().warp_operation(request, where);
}
void yield_thread() { block().yield(); }
void mistake(const char* what, const Location& where) { block().fail(std::string(what) + " in " + place(where)); }
void run_block(const Launch& launch, uint3 index, uint64_t number, Order& order) {
  block().run(launch, index, number, order);
}

}  // namespace rlvr::emulation::detail
