// The state behind most calls; and the calls for errors.
#include "emulation/runtime_state.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "emulation/controls.h"

namespace rlvr::emulation {
namespace {

using detail::result;

struct Misuses {
  int64_t count = 0;
  std::string last;
  std::mutex mutex;
};
Misuses& misuses() {
  static auto* const instance = new Misuses;
  return *instance;
}

std::atomic<int>& fill_setting() {
  static std::atomic<int> byte = detail::setting("RLVR_EMULATION_FILL", 0xff);
  return byte;
}
thread_local cudaError_t thread_error = cudaSuccess;
thread_local bool thread_in_host_function = false;

}  // namespace

namespace detail {

std::recursive_mutex& device_mutex() {
  static auto* const mutex = new std::recursive_mutex;
  return *mutex;
}
int setting(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : static_cast<int>(std::strtol(value, nullptr, 0));
}
cudaError_t result(cudaError_t status) {
  if (status != cudaSuccess) thread_error = status;
  return status;
}
cudaError_t misuse(cudaError_t status, const std::string& what) {
  const std::lock_guard lock(misuses().mutex);
  ++misuses().count;
  misuses().last = what;
  return result(status);
}
bool inside_host_function() { return thread_in_host_function; }
void run_host_function(cudaHostFn_t function, void* data) {
  thread_in_host_function = true;
  function(data);
  thread_in_host_function = false;
}
uint8_t fill_byte() { return static_cast<uint8_t>(fill_setting()); }
void die(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "CUDA emulation: %s\n", message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace detail

void set_fill(uint8_t byte) { fill_setting() = byte; }
int64_t misuse_count() {
  const std::lock_guard lock(misuses().mutex);
  return misuses().count;
}
std::string last_misuse() {
  const std::lock_guard lock(misuses().mutex);
  return misuses().last;
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

// ---- errors
// ---------------------------------------------------------------------------------------------------------------

cudaError_t cudaGetLastError() {
  const cudaError_t error = thread_error;
  thread_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return thread_error; }

namespace {
struct ErrorText {
  cudaError_t code;
  const char* name;
  const char* text;
};
#define RLVR_ERROR(NAME, TEXT) \
  { NAME, #NAME, TEXT }
constexpr ErrorText kErrors[] = {
    RLVR_ERROR(cudaSuccess, "no error"),
    RLVR_ERROR(cudaErrorInvalidValue, "invalid argument"),
    RLVR_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    RLVR_ERROR(cudaErrorInitializationError, "initialization error"),
    RLVR_ERROR(cudaErrorCudartUnloading, "driver shutting down"),
    RLVR_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    RLVR_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    RLVR_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    RLVR_ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    RLVR_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    RLVR_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    RLVR_ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
    RLVR_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    RLVR_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    RLVR_ERROR(cudaErrorNotReady, "device not ready"),
    RLVR_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    RLVR_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    RLVR_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    RLVR_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    RLVR_ERROR(cudaErrorNotSupported, "operation not supported"),
    RLVR_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    RLVR_ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    RLVR_ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    RLVR_ERROR(cudaErrorStreamCaptureImplicit,
               "operation would make the legacy stream depend on a capturing blocking stream"),
    RLVR_ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    RLVR_ERROR(cudaErrorStreamCaptureWrongThread,
               "attempt to terminate a thread-local capture sequence from another thread"),
    RLVR_ERROR(cudaErrorUnknown, "unknown error"),
};
#undef RLVR_ERROR
const ErrorText* error_text(cudaError_t code) {
  for (const ErrorText& error : kErrors)
    if (error.code == code) return &error;
  return nullptr;
}
}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* found = error_text(error);
  return found == nullptr ? "unrecognized error code" : found->name;
}
const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* found = error_text(error);
  return found == nullptr ? "unrecognized error code" : found->text;
}
