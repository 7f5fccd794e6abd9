// What is used of NCCL's binary interface, which is the same from 2.18 on: written out here, so that no nccl.h is
// needed.
#pragma once

#include <cstddef>
#include <limits>

#include "cuda/runtime.h"

namespace rlvr::nccl {

struct CommOpaque;
using Comm = CommOpaque*;

struct UniqueId {  // is passed by value
  char bytes[128];
};

enum Result : int { kSuccess = 0, kInProgress = 7 };
enum DataType : int { kUint64 = 5, kFloat32 = 7, kFloat64 = 8 };
enum Operation : int { kSum = 0, kMax = 2 };

constexpr int kOldest = 21800;  // 2.18.0

// The beginning of a configuration, which tells its own length. What a caller leaves open is the smallest int.
struct Config {
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = kOldest;
  int blocking = 0;
  int cga_cluster_size = std::numeric_limits<int>::min();
};
static_assert(sizeof(Config) == 24);

// By their names without nccl; library.cpp lists them in this order.
struct Functions {
  Result (*GetVersion)(int* version);
  Result (*GetUniqueId)(UniqueId* id);
  Result (*CommInitRankConfig)(Comm* made, int size, UniqueId id, int rank, Config* config);
  Result (*CommFinalize)(Comm comm);
  Result (*CommDestroy)(Comm comm);
  Result (*CommAbort)(Comm comm);
  Result (*CommGetAsyncError)(Comm comm, Result* error);
  Result (*CommCount)(Comm comm, int* size);
  Result (*CommUserRank)(Comm comm, int* rank);
  Result (*CommCuDevice)(Comm comm, int* device);
  Result (*AllReduce)(const void* from, void* to, size_t count, DataType type, Operation op, Comm comm,
                      cudaStream_t stream);
  Result (*AllGather)(const void* from, void* to, size_t count, DataType type, Comm comm, cudaStream_t stream);
  const char* (*GetErrorString)(Result result);
  const char* (*GetLastError)(Comm comm);
};

}  // namespace rlvr::nccl
