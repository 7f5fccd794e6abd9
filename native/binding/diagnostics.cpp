// What the addon reports of itself, and the yardsticks of the tests and benchmarks.
#include "cpu/diagnostics.h"

#include <algorithm>
#include <utility>

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

// multiplyAdd({ steps }), at most 2^24 of them: how many operations that were
Napi::Value multiply_add(const Napi::CallbackInfo& info) {
  Arguments a(info);
  const int64_t steps = a.integer("steps", int64_t{1} << 24);
  if (!a.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), cpu::multiply_add(steps));
}

// A contiguous matrix, [rows, columns] or the other way round.
float* plain_matrix(Arguments& a, const char* name, int64_t rows, int64_t columns, bool transposed = false) {
  if (transposed) std::swap(rows, columns);
  int64_t stride = columns;
  return static_cast<float*>(a.matrix(name, DType::kF32, rows, columns, stride));
}

// matrixProduct({ left: Float32Array, right: Float32Array, leftTransposed, rightTransposed, rows, columns, depth,
// out: Float32Array })
Napi::Value matrix_product(const Napi::CallbackInfo& info) {
  Arguments a(info);
  cpu::MatrixProduct op{};
  op.rows = a.integer("rows");
  op.columns = a.integer("columns");
  op.depth = a.integer("depth");
  op.left_transposed = a.boolean("leftTransposed");
  op.right_transposed = a.boolean("rightTransposed");
  op.left = plain_matrix(a, "left", op.rows, op.depth, op.left_transposed);
  op.right = plain_matrix(a, "right", op.depth, op.columns, op.right_transposed);
  op.out = plain_matrix(a, "out", op.rows, op.columns);
  if (a.ok() && !cpu::matrix_product(op)) a.fail("right", "a size for which there is memory to work in");
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
  exports.cpu.Set("multiplyAdd", Napi::Function::New<multiply_add>(env, "multiplyAdd"));
  exports.cpu.Set("matrixProduct", Napi::Function::New<matrix_product>(env, "matrixProduct"));
  exports.cpu.Set("limitThreads", Napi::Function::New<limit_threads_to>(env, "limitThreads"));
}

}  // namespace rlvr::binding
