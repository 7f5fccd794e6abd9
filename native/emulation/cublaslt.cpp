// Descriptors are what they were made with. A product is work on its stream: sums in float32 over the depth in its
// order. What would be a fault on a GPU ends the process: matrices that are not in device memory, or not at the address
// that was promised.
#include "emulation/cublaslt.h"

#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "cuda/cublaslt.h"
#include "emulation/float16_types.h"
#include "emulation/memory.h"
#include "emulation/streams.h"

namespace rlvr::cuda::lt {

struct HandleOpaque {};
struct DescOpaque {
  int32_t transposed[2];  // a, b
};
struct LayoutOpaque {
  DataType type;
  uint64_t rows;
  uint64_t columns;
  int64_t leading_dimension;
};
struct PreferenceOpaque {
  uint32_t alignment[4] = {256, 256, 256, 256};  // a, b, c, d
};

}  // namespace rlvr::cuda::lt

namespace rlvr::emulation {
namespace {

using namespace cuda::lt;
using detail::address_of;

size_t size_of(DataType type) { return type == kR32F ? 4 : 2; }

// Column-major.
struct Matrix {
  const void* data;
  LayoutOpaque layout;
  bool transposed;

  uint64_t rows() const { return transposed ? layout.columns : layout.rows; }
  uint64_t columns() const { return transposed ? layout.rows : layout.columns; }
  uint64_t index(uint64_t row, uint64_t column) const {
    const auto stride = static_cast<uint64_t>(layout.leading_dimension);
    return transposed ? row * stride + column : column * stride + row;
  }
  float at(uint64_t row, uint64_t column) const {
    const uint64_t i = index(row, column);
    if (layout.type == kR32F) return static_cast<const float*>(data)[i];
    const uint16_t bits = static_cast<const uint16_t*>(data)[i];
    return layout.type == kR16BF ? detail::bf16_value(bits) : detail::f16_value(bits);
  }
  uint64_t bytes() const {
    const auto stride = static_cast<uint64_t>(layout.leading_dimension);
    return ((layout.columns - 1) * stride + layout.rows) * size_of(layout.type);
  }
};

void check(const Matrix& matrix, uint64_t alignment, const char* name, bool running) {
  const auto bad = [&](const std::string& what) { detail::die(std::string("cublasLtMatmul: ") + name + " " + what); };
  const uint64_t address = address_of(matrix.data);
  if (address % alignment != 0) bad("is not aligned as was said when its algorithm was chosen");
  const auto* allocation = detail::find_allocation(address);
  if (allocation == nullptr || address + matrix.bytes() > allocation->first + allocation->second.bytes)
    bad(running ? "was freed before it ran" : "is not within an allocation of device memory");
  if (!running && allocation->second.freed) bad("was freed");
}

struct Call {
  Matrix a;
  Matrix b;
  Matrix d;
  float alpha;
  float beta;
  uint32_t alignment[3];  // a, b, d

  void check_all(bool running) const {
    check(a, alignment[0], "A", running);
    check(b, alignment[1], "B", running);
    check(d, alignment[2], "D", running);
  }

  void run() const {
    check_all(true);
    detail::open_device_memory();
    auto* out = static_cast<float*>(const_cast<void*>(d.data));
    for (uint64_t column = 0; column < d.columns(); ++column)
      for (uint64_t row = 0; row < d.rows(); ++row) {
        float sum = 0;
        for (uint64_t k = 0; k < a.columns(); ++k) sum += a.at(row, k) * b.at(k, column);
        float& entry = out[d.index(row, column)];
        entry = beta == 0 ? alpha * sum : alpha * sum + beta * entry;
      }
    detail::close_device_memory();
  }
};

size_t get_version() { return 130000; }

Status create(Handle* handle) {
  *handle = new HandleOpaque;
  return kSuccess;
}

Status desc_create(Desc* desc, ComputeType compute, DataType scale) {
  if (compute != kCompute32F || scale != kR32F) return kNotSupported;
  *desc = new DescOpaque{};
  return kSuccess;
}

Status desc_destroy(Desc desc) {
  delete desc;
  return kSuccess;
}

Status desc_set(Desc desc, DescAttribute attribute, const void* value, size_t bytes) {
  if (bytes != sizeof(int32_t) || (attribute != kDescTransA && attribute != kDescTransB)) return kInvalidValue;
  std::memcpy(&desc->transposed[attribute - kDescTransA], value, bytes);
  return kSuccess;
}

Status layout_create(Layout* layout, DataType type, uint64_t rows, uint64_t columns, int64_t leading_dimension) {
  if (rows == 0 || columns == 0 || leading_dimension < static_cast<int64_t>(rows)) return kInvalidValue;
  *layout = new LayoutOpaque{type, rows, columns, leading_dimension};
  return kSuccess;
}

Status layout_destroy(Layout layout) {
  delete layout;
  return kSuccess;
}

Status preference_create(Preference* preference) {
  *preference = new PreferenceOpaque;
  return kSuccess;
}

Status preference_destroy(Preference preference) {
  delete preference;
  return kSuccess;
}

Status preference_set(Preference preference, PreferenceAttribute attribute, const void* value, size_t bytes) {
  if (attribute == kMaxWorkspaceBytes) return bytes == sizeof(uint64_t) ? kSuccess : kInvalidValue;
  if (bytes != sizeof(uint32_t)) return kInvalidValue;
  if (attribute == kReductionSchemeMask) return kSuccess;
  if (attribute < kMinAlignmentA || attribute > kMinAlignmentD) return kInvalidValue;
  std::memcpy(&preference->alignment[attribute - kMinAlignmentA], value, bytes);
  return kSuccess;
}

Status get_heuristic(Handle, Desc desc, Layout a, Layout b, Layout c, Layout d, Preference preference, int wanted,
                     Heuristic* results, int* found) {
  *found = 0;
  const Matrix left{nullptr, *a, desc->transposed[0] == kOpT};
  const Matrix right{nullptr, *b, desc->transposed[1] == kOpT};
  const bool fit = left.columns() == right.rows() && left.rows() == d->rows && right.columns() == d->columns;
  if (!fit || wanted < 1 || c != d) return kInvalidValue;
  if (a->type != b->type || d->type != kR32F) return kNotSupported;
  *results = {};
  for (int i = 0; i < 3; ++i) results->algorithm.data[i] = preference->alignment[i];
  *found = 1;
  return kSuccess;
}

Status matmul(Handle, Desc desc, const void* alpha, const void* a, Layout a_layout, const void* b, Layout b_layout,
              const void* beta, const void* c, Layout, void* d, Layout d_layout, const Algorithm* algorithm, void*,
              size_t, cudaStream_t handle) {
  const std::lock_guard lock(detail::device_mutex());
  CUstream_st* stream = nullptr;
  if (detail::admit(handle, "a product", &stream) != cudaSuccess || c != d) return kInvalidValue;
  Call call{{a, *a_layout, desc->transposed[0] == kOpT},
            {b, *b_layout, desc->transposed[1] == kOpT},
            {d, *d_layout, false},
            0,
            0,
            {}};
  std::memcpy(&call.alpha, alpha, sizeof call.alpha);
  std::memcpy(&call.beta, beta, sizeof call.beta);
  for (int i = 0; i < 3; ++i) call.alignment[i] = static_cast<uint32_t>(algorithm->data[i]);
  call.check_all(false);
  detail::submit(*stream, [call] { call.run(); });
  return kSuccess;
}

int the_library = 0;  // its address stands for it

template <class Function>
void* address(Function* function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

void* open_cublaslt(const char* name) {
  const bool found = std::strncmp(name, "libcublasLt.so", 14) == 0;
  return found ? &the_library : nullptr;
}

void* cublaslt_function(void* library, const char* name) {
  if (library != &the_library) return nullptr;
  static const std::map<std::string, void*> functions = {
      {"cublasLtGetVersion", address(get_version)},
      {"cublasLtCreate", address(create)},
      {"cublasLtMatmulDescCreate", address(desc_create)},
      {"cublasLtMatmulDescDestroy", address(desc_destroy)},
      {"cublasLtMatmulDescSetAttribute", address(desc_set)},
      {"cublasLtMatrixLayoutCreate", address(layout_create)},
      {"cublasLtMatrixLayoutDestroy", address(layout_destroy)},
      {"cublasLtMatmulPreferenceCreate", address(preference_create)},
      {"cublasLtMatmulPreferenceDestroy", address(preference_destroy)},
      {"cublasLtMatmulPreferenceSetAttribute", address(preference_set)},
      {"cublasLtMatmulAlgoGetHeuristic", address(get_heuristic)},
      {"cublasLtMatmul", address(matmul)},
  };
  const auto found = functions.find(name);
  return found == functions.end() ? nullptr : found->second;
}

}  // namespace rlvr::emulation
