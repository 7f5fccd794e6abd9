// Kernels as nvcc compiled them: its PTX, translated to C++ by test/native/ptx. With RLVR_EMULATION_PTX=1 they run
// instead of what g++ made of the same sources. All of them: a launch of one that has no translation ends the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "emulation/device.h"

namespace rlvr::emulation::detail {

struct Translation {
  const char* kernel;  // mangled as by g++
  std::vector<size_t> parameter_bytes;
  unsigned max_threads;  // of a block
  // Runs the current thread. The parameters by address, in their order.
  void (*run)(const unsigned char* const* parameters);
};

// Null where the kernel itself is to run. The sizes of its parameters are the host compiler's.
const Translation* translation_of(const void* kernel, std::initializer_list<size_t> parameter_bytes);

// A static one in each translated file.
class Translations {
 public:
  Translations(std::initializer_list<Translation> translations);
};

// Ends the process where a GPU would not allow an access: its address must be a multiple of its width. Under ASan,
// which translations are compiled without, it must lie in memory that the kernel may touch.
void check_access(uint64_t address, uint32_t bytes, const Location& where);

}  // namespace rlvr::emulation::detail
