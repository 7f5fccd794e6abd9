#include "cpu/environment.h"

#include <cstdlib>

#ifdef _WIN32
#include <windows.h>
#endif

namespace rlvr {

std::string environment(const char* name) {
#ifdef _WIN32
  // std::getenv reads a copy that the C runtime made when it was loaded, and Node changes the original.
  const DWORD size = GetEnvironmentVariableA(name, nullptr, 0);
  std::string value(size, '\0');
  value.resize(size == 0 ? 0 : GetEnvironmentVariableA(name, value.data(), size));
  return value;
#else
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
#endif
}

}  // namespace rlvr
