// Devices, errors, streams and events.
#include "cuda/emulation/runtime_api.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "cuda/emulation/runtime_state.h"

struct CUstream_st {
  int device;
};
struct CUevent_st {
  bool timed;
  bool recorded;
  std::chrono::steady_clock::time_point when;
};

namespace rlvr::emulation {
namespace {

using detail::device_mutex;
using detail::misuse;
using detail::result;

struct Handles {
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  int64_t misuses = 0;
  std::string last_misuse;
  std::mutex misuse_mutex;
};
Handles& handles() {
  static auto* const instance = new Handles;
  return *instance;
}

int setting(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : static_cast<int>(std::strtol(value, nullptr, 0));
}
std::atomic<int>& devices() {
  static std::atomic<int> count = setting("RLVR_EMULATION_DEVICES", 1);
  return count;
}
std::atomic<int>& fill_setting() {
  static std::atomic<int> byte = setting("RLVR_EMULATION_FILL", 0xff);
  return byte;
}
thread_local int thread_device = 0;
thread_local cudaError_t thread_error = cudaSuccess;
thread_local bool thread_in_host_function = false;

bool live(cudaEvent_t event) { return handles().events.count(event) != 0; }

}  // namespace

namespace detail {

std::mutex& device_mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}
cudaError_t result(cudaError_t status) {
  if (status != cudaSuccess) thread_error = status;
  return status;
}
cudaError_t misuse(cudaError_t status, const char* what) {
  const std::lock_guard lock(handles().misuse_mutex);
  ++handles().misuses;
  handles().last_misuse = what;
  return result(status);
}
int current_device() { return thread_device; }
int device_count() { return devices(); }
bool valid_stream(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread) return true;
  return handles().streams.count(stream) != 0;
}
bool inside_host_function() { return thread_in_host_function; }
uint8_t fill_byte() { return static_cast<uint8_t>(fill_setting()); }
void die(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "CUDA emulation: %s\n", message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace detail

void set_fill(uint8_t byte) { fill_setting() = byte; }
void set_device_count(int count) { devices() = count; }
int64_t live_streams() {
  const std::lock_guard lock(device_mutex());
  return static_cast<int64_t>(handles().streams.size());
}
int64_t live_events() {
  const std::lock_guard lock(device_mutex());
  return static_cast<int64_t>(handles().events.size());
}
int64_t misuse_count() {
  const std::lock_guard lock(handles().misuse_mutex);
  return handles().misuses;
}
std::string last_misuse() {
  const std::lock_guard lock(handles().misuse_mutex);
  return handles().last_misuse;
}

}  // namespace rlvr::emulation

using namespace rlvr::emulation;

// ---- devices and errors
// ----------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices();
  return result(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}
cudaError_t cudaGetDevice(int* device) {
  *device = thread_device;
  return result(devices() == 0 ? cudaErrorNoDevice : cudaSuccess);
}
cudaError_t cudaSetDevice(int device) {
  if (devices() == 0) return result(cudaErrorNoDevice);
  if (device < 0 || device >= devices()) return result(cudaErrorInvalidDevice);
  thread_device = device;
  return result(cudaSuccess);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (devices() == 0) return result(cudaErrorNoDevice);
  if (device < 0 || device >= devices()) return result(cudaErrorInvalidDevice);
  *properties = cudaDeviceProp{};
  std::strcpy(properties->name, "emulated");
  properties->totalGlobalMem = size_t{16} << 30;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->sharedMemPerMultiprocessor = 228 << 10;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->maxBlocksPerMultiProcessor = 32;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->totalConstMem = 64 << 10;
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->pciBusID = device;
  properties->unifiedAddressing = 1;
  properties->memoryBusWidth = 64;
  properties->l2CacheSize = 1 << 20;
  return result(cudaSuccess);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, device); status != cudaSuccess) return status;
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    default:
      return result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = devices() == 0 ? 0 : CUDART_VERSION;
  return result(cudaSuccess);
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return result(cudaSuccess);
}
cudaError_t cudaDeviceSynchronize() {
  if (thread_in_host_function) return misuse(cudaErrorNotPermitted, "synchronisation in a host function");
  return result(devices() == 0 ? cudaErrorNoDevice : cudaSuccess);
}
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
    RLVR_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    RLVR_ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    RLVR_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    RLVR_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    RLVR_ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
    RLVR_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    RLVR_ERROR(cudaErrorNotReady, "device not ready"),
    RLVR_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    RLVR_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    RLVR_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    RLVR_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    RLVR_ERROR(cudaErrorNotSupported, "operation not supported"),
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

// ---- streams
// ---------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (stream == nullptr || flags > cudaStreamNonBlocking) return misuse(cudaErrorInvalidValue, "bad stream flags");
  if (devices() == 0) return result(cudaErrorNoDevice);
  const std::lock_guard lock(device_mutex());
  *stream = new CUstream_st{thread_device};
  handles().streams.insert(*stream);
  return result(cudaSuccess);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(device_mutex());
  if (handles().streams.erase(stream) == 0)
    return misuse(cudaErrorInvalidResourceHandle, "destruction of a dead or default stream");
  delete stream;
  return result(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const std::lock_guard lock(device_mutex());
  if (!detail::valid_stream(stream)) return misuse(cudaErrorInvalidResourceHandle, "use of a dead or foreign stream");
  return result(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (thread_in_host_function) return misuse(cudaErrorNotPermitted, "synchronisation in a host function");
  return cudaStreamQuery(stream);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t status = cudaStreamQuery(stream); status != cudaSuccess) return status;
  return cudaEventQuery(event);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (thread_in_host_function) return misuse(cudaErrorNotPermitted, "a host function in a host function");
  if (const cudaError_t status = cudaStreamQuery(stream); status != cudaSuccess) return status;
  if (function == nullptr) return misuse(cudaErrorInvalidValue, "a null host function");
  thread_in_host_function = true;
  function(data);
  thread_in_host_function = false;
  return result(cudaSuccess);
}

// ---- events
// ----------------------------------------------------------------------------------------------------------

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (event == nullptr) return misuse(cudaErrorInvalidValue, "event into a null pointer");
  if (devices() == 0) return result(cudaErrorNoDevice);
  const std::lock_guard lock(device_mutex());
  *event = new CUevent_st{(flags & cudaEventDisableTiming) == 0, false, {}};
  handles().events.insert(*event);
  return result(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(device_mutex());
  if (handles().events.erase(event) == 0) return misuse(cudaErrorInvalidResourceHandle, "destruction of a dead event");
  delete event;
  return result(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t status = cudaStreamQuery(stream); status != cudaSuccess) return status;
  const std::lock_guard lock(device_mutex());
  if (!live(event)) return misuse(cudaErrorInvalidResourceHandle, "record of a dead event");
  event->recorded = true;
  event->when = std::chrono::steady_clock::now();
  return result(cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(device_mutex());
  if (!live(event)) return misuse(cudaErrorInvalidResourceHandle, "use of a dead event");
  return result(cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaEventQuery(event); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard lock(device_mutex());
  if (!live(start) || !live(end)) return misuse(cudaErrorInvalidResourceHandle, "time of a dead event");
  if (!start->timed || !end->timed || !start->recorded || !end->recorded) return result(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
  return result(cudaSuccess);
}

// ---- kernels
// ---------------------------------------------------------------------------------------------------------

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int) {
  return result(kernel == nullptr ? cudaErrorInvalidValue : cudaSuccess);
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int block_size, size_t) {
  if (kernel == nullptr || block_size <= 0 || block_size > 1024) return result(cudaErrorInvalidValue);
  *blocks = 2048 / ((block_size + 31) / 32 * 32);
  if (*blocks > 32) *blocks = 32;
  return result(cudaSuccess);
}
