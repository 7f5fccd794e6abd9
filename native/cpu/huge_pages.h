#pragma once

#include <cstdint>

namespace rlvr::cpu {

// Asks the system to back memory that nobody has written yet with pages of 2 MiB where it can. The first write to a
// page stops for the system to find and clear one: with pages of 4 KiB that takes longer than all that the kernels do.
// A hint: it changes no contents, and where it cannot be followed, nothing happens.
void prefer_huge_pages(void* memory, int64_t bytes);

}  // namespace rlvr::cpu
