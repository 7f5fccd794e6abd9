#include "nccl/library.h"

#include <atomic>
#include <cstring>
#include <iterator>
#include <mutex>

#ifdef RLVR_CUDA_EMULATION
#include "emulation/streams_of_others.h"
#endif
#ifdef __linux__
#include <dlfcn.h>
#endif

namespace rlvr::nccl {
namespace {

std::atomic<const Functions*> opened = nullptr;

#ifdef __linux__
void* open_file(const char* name, std::string& failure) {
  void* file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (file == nullptr) failure = dlerror();
  return file;
}

void* symbol_in(void* file, const char* name) { return dlsym(file, name); }
#else
void* open_file(const char* name, std::string& failure) {
  failure = std::string(name) + ": NCCL is used on Linux only";
  return nullptr;
}

void* symbol_in(void*, const char*) { return nullptr; }
#endif

// In the order of Functions, without the nccl that each begins with.
constexpr const char* kNames[] = {"GetVersion",     "GetUniqueId",  "CommInitRankConfig", "CommFinalize",
                                  "CommDestroy",    "CommAbort",    "CommGetAsyncError",  "CommCount",
                                  "CommUserRank",   "CommCuDevice", "AllReduce",          "AllGather",
                                  "GetErrorString", "GetLastError"};
static_assert(sizeof(Functions) == std::size(kNames) * sizeof(void*));

// Why the file cannot be used; empty if it can.
std::string read(void* file, Functions& all) {
  void* found[std::size(kNames)];
  for (size_t i = 0; i < std::size(kNames); ++i) {
    const std::string name = std::string("nccl") + kNames[i];
    found[i] = symbol_in(file, name.c_str());
    if (found[i] == nullptr) return "it has no " + name;
  }
  std::memcpy(&all, found, sizeof(all));
#ifdef RLVR_CUDA_EMULATION
  if (!emulation::offer_streams(symbol_in(file, "rlvr_use_emulated_streams")))
    return "it is for GPUs, and this device is emulated";
#endif
  int version = 0;
  all.GetVersion(&version);
  return version >= kOldest ? "" : "it is version " + std::to_string(version) + ", older than 2.18 (21800)";
}

}  // namespace

const Functions* open_library(const std::string& file, std::string& failure) {
  static std::mutex mutex;
  static auto* const name = new std::string;
  const std::lock_guard lock(mutex);
  if (opened != nullptr && *name == file) return opened;
  if (opened != nullptr) return failure = "the process uses " + *name + " already", nullptr;
  void* handle = open_file(file.c_str(), failure);
  if (handle == nullptr) return nullptr;
  Functions all{};
  failure = read(handle, all);
  if (!failure.empty()) return nullptr;
  *name = file;
  opened = new Functions(all);  // outlives every communicator
  return opened;
}

const Functions* library() { return opened; }

}  // namespace rlvr::nccl
