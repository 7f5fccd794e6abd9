// What the CPU kernels need of a system, with one thread and without a system: nothing is imported but the memory.
#include <cstdlib>
#include <new>

#include "cpu/huge_pages.h"
#include "cpu/thread_pool.h"
#include "wasm/values.h"

namespace rlvr {

int thread_count() { return 1; }

void detail::run_blocks(int64_t count, int64_t grain, bool, void* body, BlockFunction function) {
  for (int64_t begin = 0; begin < count; begin += grain) function(body, begin, std::min(begin + grain, count));
}

void cpu::prefer_huge_pages(void*, int64_t) {}

namespace wasm {

// Of the package that this was built from.
RLVR_WASM_EXPORT("version") const char* version() { return RLVR_VERSION; }

// Memory for arguments; null if there is none.
RLVR_WASM_EXPORT("allocate") void* allocate(size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); }
RLVR_WASM_EXPORT("release") void release(void* memory) { std::free(memory); }

}  // namespace wasm
}  // namespace rlvr

// Without exceptions: where there is no memory the module traps, and the call that found none fails.
void* operator new(size_t bytes) {
  void* memory = std::malloc(bytes);
  if (memory == nullptr) __builtin_trap();
  return memory;
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  const auto to = static_cast<size_t>(alignment);
  void* memory = std::aligned_alloc(to, (bytes + to - 1) / to * to);
  if (memory == nullptr) __builtin_trap();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }

// The memory of the one thread lives as long as the module.
extern "C" int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }
