// NCCL, found at run time.
#pragma once

#include <string>

#include "nccl/nccl.h"

namespace rlvr::nccl {

// A process uses one library, the first that was opened: null and `failure` for another file, one that is not there, or
// one that is no NCCL from 2.18 on. Nothing is ever unloaded. For any thread.
const Functions* open_library(const std::string& file, std::string& failure);

// The one that was opened, or null.
const Functions* library();

}  // namespace rlvr::nccl
