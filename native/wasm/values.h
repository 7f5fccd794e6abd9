// Reads an op's arguments from a list of float64 numbers, in the order in which lib/backend/wasm-call.ts writes them: numbers as
// they are, arrays as addresses, 0 for one that is not there. There is nothing to check: the list is the package's own, and a wrong
// address can touch no memory but the module's.
#pragma once

#include <cstdint>

#include "ops/common.h"

// A function of the export table.
#define RLVR_WASM_EXPORT(name) extern "C" __attribute__((export_name(name)))

namespace rlvr::wasm {

class Values {
 public:
  explicit Values(const double* values) : next_(values) {}

  double number() { return *next_++; }
  int64_t integer() { return static_cast<int64_t>(number()); }
  bool boolean() { return number() != 0; }
  template <class Enum>
  Enum code() {
    return static_cast<Enum>(static_cast<int32_t>(number()));
  }
  template <class T>
  T* array() {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(number()));
  }

 private:
  const double* next_;
};

}  // namespace rlvr::wasm
