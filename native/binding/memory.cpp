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

}  // namespace

void export_memory(Napi::Env env, const Exports& exports) {
  exports.cpu.Set("preferHugePages", Napi::Function::New<prefer_huge_pages>(env, "preferHugePages"));
}

}  // namespace rlvr::binding
