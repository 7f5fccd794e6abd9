#include "cuda/cublaslt_library.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#ifdef RLVR_CUDA_EMULATION
#include "emulation/cublaslt.h"
#endif
#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace rlvr::cuda::lt {
namespace {

#ifdef _WIN32
constexpr const char* kNames[] = {"cublasLt64_13.dll", "cublasLt64_12.dll"};

void* open_file(const char* name, std::string& failure) {
  void* library = LoadLibraryA(name);
  if (library == nullptr) failure = std::string(name) + ": error " + std::to_string(GetLastError());
  return library;
}

void* symbol_in(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
#else
constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

void* open_file(const char* name, std::string& failure) {
#ifdef RLVR_CUDA_EMULATION
  if (void* emulated = emulation::open_cublaslt(name); emulated != nullptr) return emulated;
#endif
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) failure = dlerror();
  return library;
}

void* symbol_in(void* library, const char* name) {
#ifdef RLVR_CUDA_EMULATION
  if (void* emulated = emulation::cublaslt_function(library, name); emulated != nullptr) return emulated;
#endif
  return dlsym(library, name);
}
#endif

// Nothing is unloaded: a library that was loaded may have left handlers for the end of the process.
class Opened {
 public:
  explicit Opened(void* library) : library_(library) {}

  // Why it cannot be used; empty if it can.
  std::string read(Functions& all) {
    get(all.GetVersion, "GetVersion");
    get(all.Create, "Create");
    get(all.MatmulDescCreate, "MatmulDescCreate");
    get(all.MatmulDescDestroy, "MatmulDescDestroy");
    get(all.MatmulDescSetAttribute, "MatmulDescSetAttribute");
    get(all.MatrixLayoutCreate, "MatrixLayoutCreate");
    get(all.MatrixLayoutDestroy, "MatrixLayoutDestroy");
    get(all.MatmulPreferenceCreate, "MatmulPreferenceCreate");
    get(all.MatmulPreferenceDestroy, "MatmulPreferenceDestroy");
    get(all.MatmulPreferenceSetAttribute, "MatmulPreferenceSetAttribute");
    get(all.MatmulAlgoGetHeuristic, "MatmulAlgoGetHeuristic");
    get(all.Matmul, "Matmul");
    if (!missing_.empty()) return "it has no " + missing_;
    const size_t major = all.GetVersion() / 10000;
    return major == 12 || major == 13 ? "" : "it is version " + std::to_string(major) + ", not 12 or 13";
  }

 private:
  template <class Function>
  void get(Function& function, const char* name) {
    const std::string symbol = std::string("cublasLt") + name;
    function = reinterpret_cast<Function>(symbol_in(library_, symbol.c_str()));
    if (function == nullptr && missing_.empty()) missing_ = symbol;
  }

  void* library_;
  std::string missing_;
};

std::vector<const char*> names() {
  const char* named = std::getenv("RLVR_CUBLASLT");
  if (named != nullptr && *named != '\0') return {named};
  return {std::begin(kNames), std::end(kNames)};
}

bool load(Functions& functions, std::string& failure) {
  failure.clear();
  for (const char* name : names()) {
    std::string why;
    void* opened = open_file(name, why);
    if (opened != nullptr) why = Opened(opened).read(functions);
    if (opened != nullptr && why.empty()) return true;
    if (why.find(name) == std::string::npos) why = std::string(name) + ": " + why;
    failure += (failure.empty() ? "" : "; ") + why;
  }
  return false;
}

}  // namespace

const Functions* find_library(std::string& failure) {
  static std::mutex mutex;
  static const Functions* found = nullptr;
  const std::lock_guard lock(mutex);
  if (found != nullptr) return found;
  Functions functions{};
  if (load(functions, failure)) found = new Functions(functions);  // outlives every stream
  return found;
}

cudaError_t error_of(Status status) {
  if (status == kSuccess) return cudaSuccess;
  if (status == kAllocFailed) return cudaErrorMemoryAllocation;
  return status == kNotSupported ? cudaErrorNotSupported : cudaErrorUnknown;
}

cudaError_t handle_of_device(const Functions& functions, Handle& handle) {
  static std::mutex mutex;
  static auto* const handles = new std::map<int, Handle>;
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  const std::lock_guard lock(mutex);
  Handle& known = (*handles)[device];
  const Status status = known == nullptr ? functions.Create(&known) : kSuccess;
  handle = known;
  return error_of(status);
}

}  // namespace rlvr::cuda::lt
