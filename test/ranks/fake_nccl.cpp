// An NCCL that needs no GPU, for tests: its ranks are threads or processes of one machine, which share a file. It works on
// the streams of the emulated CUDA, and without blocking only when asked to, as NCCL does: a call is then "in progress"
// until somebody has asked twice.
//
//   FAKE_NCCL_FOLDER    where its files are
//   FAKE_NCCL_VERSION   what it says it is
//   FAKE_NCCL_FAIL      "init R": the beginning fails on rank R; "error R N": call N of rank R fails on all ranks, as when a
//                       machine is lost; "silence R N": rank R does nothing in its call N, and nobody notices
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

constexpr int kSuccess = 0, kSystemError = 2, kInvalidUsage = 5, kRemoteError = 6, kInProgress = 7;
constexpr int kMostRanks = 16;
constexpr size_t kSlotBytes = size_t{1} << 24;

struct Shared {
  std::atomic<int> joined;
  std::atomic<int> broken;
  std::atomic<int64_t> posted[kMostRanks];
};
constexpr size_t kHeaderBytes = 4096;
static_assert(sizeof(Shared) <= kHeaderBytes);

struct UniqueId {
  char bytes[128];
};

struct Config {
  size_t size;
  unsigned magic, version;
  int blocking;
};

using Step = int (*)(void*);
int (*put_step)(void* stream, Step step, void* data) = nullptr;
std::atomic<int> live = 0;

const char* setting(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

bool told_to_fail(const char* how, int rank, int64_t call) {
  char name[16] = "";
  int on = -1;
  long long at = 0;
  std::sscanf(setting("FAKE_NCCL_FAIL", ""), "%15s %d %lld", name, &on, &at);
  return std::strcmp(name, how) == 0 && on == rank && at == call;
}

}  // namespace

struct ncclComm {
  int rank, size, device;
  bool blocking;
  Shared* shared;
  int64_t round = 0;
  std::atomic<int> result = kSuccess;
  std::atomic<bool> aborted = false;
  struct Call* begun = nullptr;  // not yet on its stream
  int asked = 0;
};

namespace {

template <class T>
void combine(T* sums, const T* values, size_t count, int op) {
  for (size_t i = 0; i < count; ++i)
    sums[i] = op == 0 ? sums[i] + values[i] : values[i] > sums[i] ? values[i] : sums[i];
}

}  // namespace

// A collective call.
struct Call {
  ncclComm* comm;
  bool gathers;
  const void* from;
  char* to;
  size_t count;
  int type, op;
  void* stream;
  int64_t round;
  bool silent;
  bool posted = false;

  size_t bytes() const { return count * (type == 7 ? 4 : 8); }
  char* slot(int rank) const {
    return reinterpret_cast<char*>(comm->shared) + kHeaderBytes +
           (static_cast<size_t>(round % 2) * kMostRanks + static_cast<size_t>(rank)) * kSlotBytes;
  }
  bool step() {
    if (comm->aborted) return true;
    if (silent) return false;
    if (!posted) std::memcpy(slot(comm->rank), from, bytes());
    if (!posted) comm->shared->posted[comm->rank].store(round);
    posted = true;
    for (int r = 0; r < comm->size; ++r)
      if (comm->shared->posted[r].load() < round) return false;
    for (int r = 0; r < comm->size; ++r) take(r);
    return true;
  }
  void take(int r) {
    if (gathers || r == 0)
      std::memcpy(to + (gathers ? static_cast<size_t>(r) * bytes() : 0), slot(r), bytes());
    else if (type == 7)
      combine(reinterpret_cast<float*>(to), reinterpret_cast<const float*>(slot(r)), count, op);
    else if (type == 5)
      combine(reinterpret_cast<uint64_t*>(to), reinterpret_cast<const uint64_t*>(slot(r)), count, op);
    else
      combine(reinterpret_cast<double*>(to), reinterpret_cast<const double*>(slot(r)), count, op);
  }
};

namespace {

int enqueue(Call* call) {
  const Step step = [](void* data) {
    auto* call = static_cast<Call*>(data);
    if (!call->step()) return 0;
    delete call;
    return 1;
  };
  return put_step(call->stream, step, call) == 0 ? kSuccess : 1;
}

int begin(ncclComm* comm, Call* call) {
  call->round = ++comm->round;
  if (call->bytes() > kSlotBytes || comm->begun != nullptr) return kInvalidUsage;
  if (told_to_fail("error", comm->rank, call->round)) comm->shared->broken = 1;
  call->silent = comm->shared->broken != 0 || told_to_fail("silence", comm->rank, call->round);
  if (comm->blocking) return enqueue(call);
  comm->begun = call;
  comm->asked = 0;
  return kInProgress;
}

Shared* map_file(const char* path) {
  const size_t bytes = kHeaderBytes + 2 * kMostRanks * kSlotBytes;
  const int file = ::open(path, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) return nullptr;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  ::close(file);
  return memory == MAP_FAILED ? nullptr : static_cast<Shared*>(memory);
}

ncclComm* make(int rank, int size, int device, bool blocking, const char* path) {
  Shared* shared = size > kMostRanks ? nullptr : map_file(path);
  if (shared == nullptr) return nullptr;
  ++live;
  return new ncclComm{rank, size, device, blocking, shared};
}

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default")))

// What the emulated CUDA offers.
FAKE void rlvr_use_emulated_streams(int (*put)(void*, Step, void*)) { put_step = put; }
FAKE int fake_nccl_live() { return live; }

FAKE int ncclGetVersion(int* version) { return *version = std::atoi(setting("FAKE_NCCL_VERSION", "21805")), kSuccess; }

FAKE int ncclGetUniqueId(UniqueId* id) {
  static std::atomic<int> made = 0;
  std::snprintf(id->bytes, sizeof(id->bytes), "%s/%d-%d", setting("FAKE_NCCL_FOLDER", "/tmp"), getpid(), ++made);
  return kSuccess;
}

FAKE int ncclCommInitRankConfig(ncclComm** comm, int size, UniqueId id, int rank, Config* config) {
  *comm = nullptr;
  if (config->size < 24 || config->magic != 0xcafebeef || config->version < 21400) return kInvalidUsage;
  if (told_to_fail("init", rank, 0)) return kSystemError;
  *comm = make(rank, size, -1, config->blocking != 0, id.bytes);
  if (*comm == nullptr) return kSystemError;
  ++(*comm)->shared->joined;
  (*comm)->result = kInProgress;
  return kInProgress;
}

// Communicators of a library that keeps all of its ranks in one process, and blocks.
FAKE int ncclCommInitAll(ncclComm** comms, int count, const int* devices) {
  UniqueId id;
  ncclGetUniqueId(&id);
  for (int r = 0; r < count; ++r)
    if ((comms[r] = make(r, count, devices[r], true, id.bytes)) == nullptr) return kSystemError;
  return kSuccess;
}

FAKE int ncclCommGetAsyncError(ncclComm* comm, int* error) {
  if (comm->result == kInProgress && comm->shared->joined == comm->size) comm->result = kSuccess;
  if (comm->begun != nullptr && ++comm->asked == 2) comm->result = enqueue(std::exchange(comm->begun, nullptr));
  *error = comm->begun != nullptr ? kInProgress : comm->result.load();
  if (comm->shared->broken != 0) *error = kRemoteError;
  return kSuccess;
}

FAKE int ncclCommFinalize(ncclComm*) { return kSuccess; }
FAKE int ncclCommDestroy(ncclComm*) { return --live, kSuccess; }  // its memory stays: a stream may hold a call
FAKE int ncclCommAbort(ncclComm* comm) { return comm->aborted = true, --live, kSuccess; }
FAKE int ncclCommCount(const ncclComm* comm, int* size) { return *size = comm->size, kSuccess; }
FAKE int ncclCommUserRank(const ncclComm* comm, int* rank) { return *rank = comm->rank, kSuccess; }
FAKE int ncclCommCuDevice(const ncclComm* comm, int* device) { return *device = comm->device, kSuccess; }

FAKE int ncclAllReduce(const void* from, void* to, size_t count, int type, int op, ncclComm* comm, void* stream) {
  return begin(comm, new Call{comm, false, from, static_cast<char*>(to), count, type, op, stream, 0, false});
}
FAKE int ncclAllGather(const void* from, void* to, size_t count, int type, ncclComm* comm, void* stream) {
  return begin(comm, new Call{comm, true, from, static_cast<char*>(to), count, type, 0, stream, 0, false});
}

FAKE const char* ncclGetErrorString(int result) {
  return result == kRemoteError ? "remote process exited or there was a network error" : "unhandled system error";
}
FAKE const char* ncclGetLastError(ncclComm*) { return "as it was told"; }
