// The part of cuBLASLt's C interface that this package calls, with the names and numbers of cublasLt.h of CUDA 12 and
// 13, in which it is the same. Descriptors are opaque, and made by the library; so it may change what is in them. Found
// at run time (cublaslt_library.cpp): the package neither carries the library nor needs it for anything but products.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/runtime.h"

namespace rlvr::cuda::lt {

enum Status : int { kSuccess = 0, kNotInitialized = 1, kAllocFailed = 3, kInvalidValue = 7, kNotSupported = 15 };
enum DataType : int { kR32F = 0, kR16F = 2, kR16BF = 14 };
enum ComputeType : int { kCompute32F = 68 };  // float32 throughout, where kCompute32FFastTF32 (77) is not
enum Operation : int { kOpN = 0, kOpT = 1 };
enum DescAttribute : int { kDescTransA = 3, kDescTransB = 4 };  // int32_t each
enum PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,    // uint64_t
  kReductionSchemeMask = 3,  // uint32_t
  kMinAlignmentA = 5,        // uint32_t each, bytes
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8,
};
// Sums over parts of the depth: in the workspace, in float32, added up in a fixed order. 0, no parts, is always
// allowed.
constexpr uint32_t kReduceInComputeType = 2;

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status status;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Heuristic) == 96);

using Handle = struct HandleOpaque*;
using Desc = struct DescOpaque*;
using Layout = struct LayoutOpaque*;
using Preference = struct PreferenceOpaque*;

// The functions, without the prefix cublasLt.
struct Functions {
  size_t (*GetVersion)();
  Status (*Create)(Handle*);
  Status (*MatmulDescCreate)(Desc*, ComputeType, DataType scale);
  Status (*MatmulDescDestroy)(Desc);
  Status (*MatmulDescSetAttribute)(Desc, DescAttribute, const void* value, size_t bytes);
  Status (*MatrixLayoutCreate)(Layout*, DataType, uint64_t rows, uint64_t columns, int64_t leading_dimension);
  Status (*MatrixLayoutDestroy)(Layout);
  Status (*MatmulPreferenceCreate)(Preference*);
  Status (*MatmulPreferenceDestroy)(Preference);
  Status (*MatmulPreferenceSetAttribute)(Preference, PreferenceAttribute, const void* value, size_t bytes);
  Status (*MatmulAlgoGetHeuristic)(Handle, Desc, Layout a, Layout b, Layout c, Layout d, Preference, int wanted,
                                   Heuristic*, int* found);
  // d = alpha * op(a) * op(b) + beta * c
  Status (*Matmul)(Handle, Desc, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta,
                   const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace, size_t workspace_bytes,
                   cudaStream_t);
};

}  // namespace rlvr::cuda::lt
