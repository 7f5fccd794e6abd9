// A stack of its own that the scheduler switches to and from. ASan is told of every switch.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) || defined(RLVR_EMULATION_UCONTEXT)
#define RLVR_EMULATION_USE_UCONTEXT 1
#include <ucontext.h>
#endif

namespace rlvr::emulation::detail {

class Fiber {
 public:
  // The calling thread's own stack.
  Fiber() = default;
  // A new stack, where `entry` starts at the first switch and never returns.
  explicit Fiber(void (*entry)(), size_t number);
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves this fiber, which must be the running one; returns when something switches back to it.
  void switch_to(Fiber& next);
  // First thing on a new fiber.
  void started();

 private:
  void arrived();

#ifdef RLVR_EMULATION_USE_UCONTEXT
  ucontext_t context_{};
#else
  void* stack_pointer_ = nullptr;
#endif
  void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace rlvr::emulation::detail
