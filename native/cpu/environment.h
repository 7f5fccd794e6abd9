// Environment variables, as Node has set them.
#pragma once

#include <string>

namespace rlvr {

// The value of a variable of this process; empty where it is not set.
std::string environment(const char* name);

}  // namespace rlvr
