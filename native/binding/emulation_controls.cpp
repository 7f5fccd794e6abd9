#include "binding/emulation_controls.h"

#ifdef RLVR_CUDA_EMULATION
#include <dlfcn.h>

#include <string>
#include <vector>

#include "cuda/device_scope.h"
#include "emulation/cuda_emulation.h"

namespace rlvr::binding {
namespace {

using Info = const Napi::CallbackInfo&;

Napi::Value number(Info info, int64_t value) { return Napi::Number::New(info.Env(), static_cast<double>(value)); }

template <class Handle>
Napi::Value handle(Info info, Handle value) {
  return Napi::BigInt::New(info.Env(), reinterpret_cast<uint64_t>(value));
}
template <class Handle>
Handle handle(const Napi::Value& value) {
  bool lossless = true;
  return reinterpret_cast<Handle>(value.As<Napi::BigInt>().Uint64Value(&lossless));
}

Napi::Value operations(Info info) {
  const emulation::Operations counted = emulation::operations();
  Napi::Object result = Napi::Object::New(info.Env());
  const auto add = [&](const char* name, int64_t count) { result.Set(name, static_cast<double>(count)); };
  add("launches", counted.launches);
  add("blocks", counted.blocks);
  add("copies", counted.copies);
  add("copies2d", counted.copies_2d);
  add("memsets", counted.memsets);
  add("allocations", counted.allocations);
  add("frees", counted.frees);
  return result;
}

// (what, value); false if there is no such trait.
Napi::Value pretend(Info info) {
  constexpr const char* kNames[emulation::kTraits] = {"driver", "pools", "images", "maxPitch", "memory", "processors"};
  const std::string what = info[0].ToString();
  for (int i = 0; i < emulation::kTraits; ++i) {
    if (what != kNames[i]) continue;
    emulation::set_trait(static_cast<emulation::Trait>(i), info[1].ToNumber().Int64Value());
    return Napi::Boolean::New(info.Env(), true);
  }
  return Napi::Boolean::New(info.Env(), false);
}

// (device): a stream of another library.
Napi::Value create_stream(Info info) {
  const cuda::DeviceScope scope(info[0].ToNumber().Int32Value());
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  return handle(info, stream);
}

// (stream): whether the capture was still valid.
Napi::Value end_capture(Info info) {
  cudaGraph_t graph = nullptr;
  const bool valid = cudaStreamEndCapture(handle<cudaStream_t>(info[0]), &graph) == cudaSuccess;
  if (graph != nullptr) cudaGraphDestroy(graph);
  return Napi::Boolean::New(info.Env(), valid);
}

// (device): an event of another library.
Napi::Value create_event(Info info) {
  const cuda::DeviceScope scope(info[0].ToNumber().Int32Value());
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  return handle(info, event);
}

// (bytes): 0n where there is not enough memory.
Napi::Value allocate(Info info) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, static_cast<size_t>(info[0].ToNumber().Int64Value())) != cudaSuccess) cudaGetLastError();
  return handle(info, memory);
}

// (stream, pointer, byte, bytes): work of another library.
void set_memory(Info info) {
  cudaMemsetAsync(handle<void*>(info[1]), info[2].ToNumber(), static_cast<size_t>(info[3].ToNumber().Int64Value()),
                  handle<cudaStream_t>(info[0]));
}

// (file, count): communicators of an NCCL whose ranks are all in this process, on the devices from 0 on.
Napi::Value nccl_init_all(Info info) {
  void* file = dlopen(info[0].ToString().Utf8Value().c_str(), RTLD_NOW | RTLD_LOCAL);
  const auto init_all = reinterpret_cast<int (*)(void**, int, const int*)>(dlsym(file, "ncclCommInitAll"));
  const auto count = info[1].ToNumber().Uint32Value();
  std::vector<void*> made(count);
  std::vector<int> devices;
  for (uint32_t i = 0; i < count; ++i) devices.push_back(static_cast<int>(i));
  init_all(made.data(), static_cast<int>(count), devices.data());
  Napi::Array all = Napi::Array::New(info.Env(), count);
  for (uint32_t i = 0; i < count; ++i) all.Set(i, handle(info, made[i]));
  return all;
}

// (file): how many communicators the NCCL of the tests has, of anybody.
Napi::Value nccl_live(Info info) {
  void* file = dlopen(info[0].ToString().Utf8Value().c_str(), RTLD_NOW | RTLD_LOCAL);
  return number(info, reinterpret_cast<int (*)()>(dlsym(file, "fake_nccl_live"))());
}

}  // namespace

Napi::Object emulation_controls(Napi::Env env) {
  Napi::Object controls = Napi::Object::New(env);
  const auto add = [&](const char* name, auto function) {
    controls.Set(name, Napi::Function::New(env, function, name));
  };
  add("liveAllocations", [](Info info) { return number(info, emulation::live_allocations()); });
  add("liveBytes", [](Info info) { return number(info, emulation::live_bytes()); });
  add("misuses", [](Info info) -> Napi::Value {
    const bool any = emulation::misuse_count() > 0;
    return any ? Napi::String::New(info.Env(), emulation::last_misuse()) : info.Env().Undefined();
  });
  add("hasContext", [](Info info) -> Napi::Value {
    return Napi::Boolean::New(info.Env(), emulation::has_context(info[0].ToNumber()));
  });
  add("failAllocation", [](Info info) { emulation::fail_allocation(info[0].ToNumber()); });
  add("failRecord", [](Info info) { emulation::fail_record(info[0].ToNumber()); });
  add("operations", operations);
  add("pretend", pretend);
  add("createStream", create_stream);
  add("destroyStream", [](Info info) { cudaStreamDestroy(handle<cudaStream_t>(info[0])); });
  add("beginCapture", [](Info info) {
    cudaStreamBeginCapture(handle<cudaStream_t>(info[0]), cudaStreamCaptureModeRelaxed);
  });
  add("endCapture", end_capture);
  add("createEvent", create_event);
  add("destroyEvent", [](Info info) { cudaEventDestroy(handle<cudaEvent_t>(info[0])); });
  add("recordEvent", [](Info info) { cudaEventRecord(handle<cudaEvent_t>(info[0]), handle<cudaStream_t>(info[1])); });
  add("allocate", allocate);
  add("free", [](Info info) { cudaFree(handle<void*>(info[0])); });
  add("setMemory", set_memory);
  add("ncclInitAll", nccl_init_all);
  add("ncclLive", nccl_live);
  return controls;
}

}  // namespace rlvr::binding
#endif
