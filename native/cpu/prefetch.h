// Hints to the processor. A copy for every file: they are compiled for different instruction sets.
#pragma once

#ifdef _MSC_VER
#include <intrin.h>
#endif

namespace rlvr {
namespace {

// That a line of memory will be read.
[[gnu::always_inline]] inline void prefetch(const void* address) {
#ifndef _MSC_VER
  __builtin_prefetch(address);
#elif defined(_M_ARM64)
  __prefetch(address);
#else
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
#endif
}

// That it will be written.
[[gnu::always_inline]] inline void prefetch_to_write(const void* address) {
#ifndef _MSC_VER
  __builtin_prefetch(address, 1);
#else
  prefetch(address);
#endif
}

}  // namespace
}  // namespace rlvr
