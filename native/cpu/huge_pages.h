#pragma once

#include <cstdint>

namespace rlvr::cpu {

// Asks the system to back memory that has not been written yet with huge pages (2 MiB) where it can. The first write to
// a page faults, for the system to find and clear one: with pages of 4 KiB that takes longer than the kernels do.
// A hint: it changes no contents, and where it cannot be followed, nothing happens.
void prefer_huge_pages(void* memory, int64_t bytes);

}  // namespace rlvr::cpu
