#include "binding/exports.h"
#include "cpu/huge_pages.h"

namespace rlvr::binding {
namespace {

// preferHugePages(array: TypedArray): see cpu/huge_pages.h
Napi::Value prefer_huge_pages(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray()) {
    Napi::TypeError::New(info.Env(), "preferHugePages: expected a typed array").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const auto array = info[0].As<Napi::TypedArray>();
  auto* memory = static_cast<uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  cpu::prefer_huge_pages(memory, static_cast<int64_t>(array.ByteLength()));
  return info.Env().Undefined();
}

}  // namespace

void export_memory(Napi::Env env, const Exports& exports) {
  exports.cpu.Set("preferHugePages", Napi::Function::New<prefer_huge_pages>(env, "preferHugePages"));
}

}  // namespace rlvr::binding
