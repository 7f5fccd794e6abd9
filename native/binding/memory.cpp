#include <cstdint>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "cpu/huge_pages.h"

namespace rlvr::binding {
namespace {

// preferHugePages({ memory: Uint8Array, bytes }): see cpu/huge_pages.h
Napi::Value prefer_huge_pages(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const int64_t bytes = a.integer("bytes");
  auto* memory = a.array<uint8_t>("memory", bytes);
  if (a.ok()) cpu::prefer_huge_pages(memory, bytes);
  return info.Env().Undefined();
}

// address(typed array): where its first element is. Arrays on different buffers may share memory: shared memory arrives
// in a new SharedArrayBuffer with each message. A double holds the 52 bits of the widest addresses.
Napi::Value address(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  if (!info[0].IsTypedArray() ||
      napi_get_typedarray_info(env, info[0], &type, &length, &data, nullptr, nullptr) != napi_ok) {
    Napi::TypeError::New(env, "rlvr-kernels native call: address: expected a typed array").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return Napi::Number::New(env, static_cast<double>(reinterpret_cast<uintptr_t>(data)));
}

}  // namespace

void export_memory(Napi::Env env, const Exports& exports) {
  exports.cpu.Set("address", Napi::Function::New<address>(env, "address"));
  exports.cpu.Set("preferHugePages", Napi::Function::New<prefer_huge_pages>(env, "preferHugePages"));
}

}  // namespace rlvr::binding
