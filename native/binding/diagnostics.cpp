// What the addon reports of itself, and the yardsticks of the tests and benchmarks.
#include "cpu/diagnostics.h"

#include <algorithm>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "cpu/cpu_features.h"
#include "cpu/thread_pool.h"

namespace rlvr::binding {
namespace {

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("simd", simd_name(simd_level()));
  result.Set("threads", thread_count());
  return result;
}

// simdExp({ x: Float32Array, out: Float32Array, count })
Napi::Value simd_exp(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const int64_t count = a.integer("count");
  const auto* x = a.array<const float>("x", count);
  auto* out = a.array<float>("out", count);
  if (a.ok()) cpu::simd_exp(x, out, count);
  return info.Env().Undefined();
}

// readMemory({ source: Uint8Array, bytes }): a checksum
Napi::Value read_memory(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const int64_t bytes = a.integer("bytes");
  const auto* source = a.array<const uint8_t>("source", bytes);
  if (!a.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(cpu::read_memory(source, bytes) >> 12));
}

// copyMemory({ source: Uint8Array, destination: Uint8Array, bytes })
Napi::Value copy_memory(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const int64_t bytes = a.integer("bytes");
  const auto* source = a.array<const uint8_t>("source", bytes);
  auto* destination = a.array<uint8_t>("destination", bytes);
  if (a.ok()) cpu::copy_memory(source, destination, bytes);
  return info.Env().Undefined();
}

// streamMemory: the same with non-temporal stores
Napi::Value stream_memory(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const int64_t bytes = a.integer("bytes");
  const auto* source = a.array<const uint8_t>("source", bytes);
  auto* destination = a.array<uint8_t>("destination", bytes);
  if (a.ok()) cpu::stream_memory(source, destination, bytes);
  return info.Env().Undefined();
}

// limitThreads({ threads }): at most this many take part in this process's loops from now on; 0: as configured
Napi::Value limit_threads_to(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const int64_t threads = a.integer("threads");
  if (a.ok()) limit_threads(static_cast<int>(std::clamp<int64_t>(threads, 0, thread_count())));
  return info.Env().Undefined();
}

}  // namespace

void export_diagnostics(Napi::Env env, const Exports& exports) {
  exports.cpu.Set("version", RLVR_VERSION);  // lib/backend/addon.ts accepts only its own
  exports.cpu.Set("cpuInfo", Napi::Function::New<cpu_info>(env, "cpuInfo"));
  exports.cpu.Set("simdExp", Napi::Function::New<simd_exp>(env, "simdExp"));
  exports.cpu.Set("readMemory", Napi::Function::New<read_memory>(env, "readMemory"));
  exports.cpu.Set("copyMemory", Napi::Function::New<copy_memory>(env, "copyMemory"));
  exports.cpu.Set("streamMemory", Napi::Function::New<stream_memory>(env, "streamMemory"));
  exports.cpu.Set("limitThreads", Napi::Function::New<limit_threads_to>(env, "limitThreads"));
}

}  // namespace rlvr::binding
