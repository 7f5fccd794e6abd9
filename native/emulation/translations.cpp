#include "emulation/translations.h"

#include <algorithm>
#include <map>
#include <string>

#include "emulation/runtime_state.h"

#ifdef RLVR_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace rlvr::emulation::detail {
namespace {

using ByName = std::map<std::string, Translation>;

ByName& registered() {
  static auto* const instance = new ByName;
  return *instance;
}

const Translation& find(const void* kernel) {
  const auto found = registered().find(mangled_name(kernel));
  if (found == registered().end()) die("RLVR_EMULATION_PTX: no translation of kernel " + symbol_name(kernel));
  return found->second;
}

}  // namespace

Translations::Translations(std::initializer_list<Translation> translations) {
  for (const Translation& one : translations)
    if (!registered().emplace(one.kernel, one).second) die(std::string("two translations of ") + one.kernel);
}

const Translation* translation_of(const void* kernel, std::initializer_list<size_t> parameter_bytes) {
  static const bool wanted = setting("RLVR_EMULATION_PTX", 0) != 0;
  if (!wanted) return nullptr;
  const std::lock_guard lock(device_mutex());
  static auto* const known = new std::map<const void*, const Translation*>;  // by address: a name is searched for
  const auto [entry, is_new] = known->emplace(kernel, nullptr);
  if (is_new) entry->second = &find(kernel);
  const Translation& translation = *entry->second;
  if (!std::ranges::equal(translation.parameter_bytes, parameter_bytes))
    die("kernel " + symbol_name(kernel) + ": its parameters have other sizes in PTX");
  return &translation;
}

void check_access(uint64_t address, uint32_t bytes, const Location& where) {
  if (address % bytes != 0) mistake(("a misaligned access of " + std::to_string(bytes) + " bytes").c_str(), where);
#ifdef RLVR_EMULATION_ASAN
  auto* const begin = reinterpret_cast<void*>(address);
  if (__asan_region_is_poisoned(begin, bytes) != nullptr) {
    const auto text = "an access of " + std::to_string(bytes) + " bytes to memory that is not the kernel's";
    mistake(text.c_str(), where);
  }
#endif
}

}  // namespace rlvr::emulation::detail
