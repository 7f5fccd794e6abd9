// Where translated kernels load from and store to.
#pragma once

#include <cstdint>
#include <span>

#include "emulation/cuda_emulation.h"
#include "emulation/translations.h"

namespace rlvr::ptx {

using emulation::detail::Location;

// The bytes at a generic address, which is a host address here.
inline unsigned char* memory(uint64_t address, uint32_t bytes, const Location& where = Location::current()) {
  emulation::detail::check_access(address, bytes, where);
  return reinterpret_cast<unsigned char*>(address);
}
inline uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

struct SharedVariable {
  uint64_t offset;
  uint64_t bytes;
};

// The shared memory of a module. Its first address is not 0 on a GPU, either.
constexpr uint64_t kWindow = 1024;
class Window {
 public:
  constexpr Window(unsigned char* bytes, std::span<const SharedVariable> variables)
      : bytes_(bytes), variables_(variables) {}

  unsigned char* at(uint64_t address, uint32_t bytes, const Location& where = Location::current()) const {
    for (const SharedVariable& variable : variables_) {
      const uint64_t inside = address - kWindow - variable.offset;
      if (inside < variable.bytes && bytes <= variable.bytes - inside)
        return memory(to_generic(address), bytes, where);
    }
    emulation::detail::mistake("an access outside of shared variables", where);
  }
  uint64_t to_generic(uint64_t address) const { return address_of(bytes_) + address - kWindow; }
  uint64_t from_generic(uint64_t address) const { return address - address_of(bytes_) + kWindow; }

 private:
  unsigned char* bytes_;
  std::span<const SharedVariable> variables_;
};

// Writes what `next` makes of the old value, and returns that.
template <class T, class F>
T exchange(unsigned char* at, F next) {
  auto& value = *reinterpret_cast<T*>(at);
  const T old = value;
  value = next(old);
  return old;
}

}  // namespace rlvr::ptx
