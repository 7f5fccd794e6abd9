#include "emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "emulation/runtime_state.h"

#ifdef RLVR_EMULATION_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef RLVR_EMULATION_USE_UCONTEXT
// swapcontext asks the kernel for the signal mask at every switch; this saves what the ABI tells a callee to save.
extern "C" void rlvr_emulation_switch(void** save_stack_pointer, void* stack_pointer);
asm(R"(
  .text
  .hidden rlvr_emulation_switch
  .globl rlvr_emulation_switch
  .type rlvr_emulation_switch, @function
rlvr_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size rlvr_emulation_switch, .-rlvr_emulation_switch
)");
#endif

namespace rlvr::emulation::detail {
namespace {

#ifdef RLVR_EMULATION_ASAN
constexpr size_t kStackBytes = 256 << 10;  // redzones in every frame, and ASan's report is written from here
#else
constexpr size_t kStackBytes = 128 << 10;
#endif

Fiber* left = nullptr;  // the fiber that the last switch came from; launches are serialised

void* map_stack() {
  const auto guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const memory =
      mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) die("no memory for a thread's stack");
  return static_cast<char*>(memory) + guard;
}

}  // namespace

Fiber::Fiber(void (*entry)(), size_t number) : stack_(map_stack()), stack_bytes_(kStackBytes) {
  // Tops at different offsets, or all threads' frames would compete for the same cache sets.
  const size_t usable = kStackBytes - number % 31 * 128;
#ifdef RLVR_EMULATION_USE_UCONTEXT
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = usable;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#else
  auto* const top = reinterpret_cast<uintptr_t*>(static_cast<char*>(stack_) + usable);
  top[-1] = 0;                                   // where entry's caller would be: the end of a backtrace
  top[-2] = reinterpret_cast<uintptr_t>(entry);  // 16-byte aligned, so that entry sees the ABI's alignment
  for (int i = 3; i <= 8; ++i) top[-i] = 0;      // the six saved registers
  stack_pointer_ = top - 8;
#endif
}

void Fiber::switch_to(Fiber& next) {
  left = this;
#ifdef RLVR_EMULATION_ASAN
  __sanitizer_start_switch_fiber(&fake_stack_, next.stack_, next.stack_bytes_);
#endif
#ifdef RLVR_EMULATION_USE_UCONTEXT
  swapcontext(&context_, &next.context_);
#else
  rlvr_emulation_switch(&stack_pointer_, next.stack_pointer_);
#endif
  arrived();
}

void Fiber::started() { arrived(); }

void Fiber::arrived() {
#ifdef RLVR_EMULATION_ASAN
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &bytes);
  left->stack_ = const_cast<void*>(bottom);  // tells us the bounds of the host thread's stack
  left->stack_bytes_ = bytes;
#endif
}

}  // namespace rlvr::emulation::detail
