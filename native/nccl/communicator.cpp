#include "nccl/communicator.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "cuda/linear_rows.h"
#include "ranks/patience.h"

namespace rlvr::nccl {
namespace {

constexpr size_t kNumbers = size_t{1} << 20;  // that travel at a time
constexpr int64_t kBytes = kNumbers * sizeof(double);

// Doubles as whole numbers in the same order, -0 below 0 and every NaN on top: NCCL's own maximum leaves NaNs out.
uint64_t ordered(double value) {
  constexpr uint64_t kSign = uint64_t{1} << 63;
  if (value != value) return ~uint64_t{0};
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

double unordered(uint64_t number) {
  constexpr uint64_t kSign = uint64_t{1} << 63;
  const uint64_t bits = (number & kSign) != 0 ? number & ~kSign : ~number;
  double value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace

std::shared_ptr<Communicator> Communicator::make(const Functions& nccl, std::shared_ptr<cuda::DeviceContext> context,
                                                 Milliseconds longest, std::string& failure) {
  std::shared_ptr<Communicator> made(new Communicator(nccl, std::move(context), longest));
  failure = made->allocate();
  return failure.empty() ? made : nullptr;
}

std::string Communicator::allocate() {
  const cuda::DeviceScope scope(context_->device());
  void* memory = nullptr;
  cudaError_t error = context_->allocate(memory, kBytes);
  device_ = static_cast<double*>(memory);
  if (error == cudaSuccess) error = cudaHostAlloc(&memory, kBytes, cudaHostAllocDefault);
  if (error == cudaSuccess) pinned_ = static_cast<double*>(memory);
  if (error == cudaSuccess) error = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
  return cuda::describe(error);
}

Communicator::~Communicator() {
  abort();
  const cuda::DeviceScope scope(context_->device());
  context_->release(device_, kBytes);
  if (event_ != nullptr) cudaEventDestroy(event_);
  if (pinned_ != nullptr && !stuck_) cudaFreeHost(pinned_);
}

std::string Communicator::open(const UniqueId& id, int rank, int size) {
  const std::lock_guard turn(turn_);
  if (size_ != 0) return "it was opened before";
  const cuda::DeviceScope scope(context_->device());
  rank_ = rank;
  size_ = size;
  own_ = true;
  Config config;
  return issued(nccl_.CommInitRankConfig(&comm_, size, id, rank, &config));
}

std::string Communicator::adopt(Comm other, int rank, int size) {
  const std::lock_guard turn(turn_);
  if (size_ != 0) return "it was opened before";
  int found[3] = {};
  for (const Result result :
       {nccl_.CommUserRank(other, &found[0]), nccl_.CommCount(other, &found[1]), nccl_.CommCuDevice(other, &found[2])})
    if (result != kSuccess) return of(result);
  if (found[0] != rank || found[1] != size)
    return "it is rank " + std::to_string(found[0]) + " of " + std::to_string(found[1]);
  if (found[2] != context_->device()) return "it is of device " + std::to_string(found[2]);
  rank_ = rank;
  size_ = size;
  comm_ = other;
  return "";
}

std::string Communicator::begin() {
  if (comm_ == nullptr) return "an error before";
  return cuda::describe(context_->ready());
}

std::string Communicator::reduce(std::vector<double>& values, bool maximum) {
  const std::lock_guard turn(turn_);
  const cuda::DeviceScope scope(context_->device());
  std::string failure = begin();
  for (size_t first = 0; failure.empty() && first < values.size(); first += kNumbers)
    failure = reduce_piece(values.data() + first, std::min(kNumbers, values.size() - first), maximum);
  return failure;
}

std::string Communicator::reduce_piece(double* values, size_t count, bool maximum) {
  auto* numbers = reinterpret_cast<uint64_t*>(pinned_);
  if (maximum)
    std::transform(values, values + count, numbers, ordered);
  else
    std::copy(values, values + count, pinned_);
  const cudaStream_t stream = context_->stream();
  const size_t bytes = count * sizeof(double);
  std::string failure = check(cudaMemcpyAsync(device_, pinned_, bytes, cudaMemcpyHostToDevice, stream));
  if (failure.empty())
    failure = issued(
        nccl_.AllReduce(device_, device_, count, maximum ? kUint64 : kFloat64, maximum ? kMax : kSum, comm_, stream));
  if (failure.empty()) failure = check(cudaMemcpyAsync(pinned_, device_, bytes, cudaMemcpyDeviceToHost, stream));
  if (failure.empty()) failure = passed();
  if (!failure.empty()) return failure;
  if (maximum)
    std::transform(numbers, numbers + count, values, unordered);
  else
    std::copy(pinned_, pinned_ + count, values);
  return "";
}

// Every rank sends as many numbers as the longest of a piece.
std::string Communicator::gather(const std::vector<double>& values, const std::vector<int>& counts,
                                 std::vector<double>& out) {
  const std::lock_guard turn(turn_);
  const cuda::DeviceScope scope(context_->device());
  const cudaStream_t stream = context_->stream();
  const size_t most = kNumbers / counts.size();
  const auto longest = static_cast<size_t>(*std::max_element(counts.begin(), counts.end()));
  const auto part_of = [&](size_t length, size_t first) { return std::min(length - std::min(first, length), most); };
  std::string failure = begin();
  for (size_t first = 0; failure.empty() && first < longest; first += most) {
    const size_t each = part_of(longest, first);
    const size_t own = part_of(values.size(), first);
    double* mine = device_ + static_cast<size_t>(rank_) * each;
    std::fill(pinned_, pinned_ + each, 0);
    std::copy_n(values.data() + std::min(first, values.size()), own, pinned_);
    failure = check(cudaMemcpyAsync(mine, pinned_, each * sizeof(double), cudaMemcpyHostToDevice, stream));
    if (failure.empty()) failure = issued(nccl_.AllGather(mine, device_, each, kFloat64, comm_, stream));
    const size_t all = each * counts.size() * sizeof(double);
    if (failure.empty()) failure = check(cudaMemcpyAsync(pinned_, device_, all, cudaMemcpyDeviceToHost, stream));
    if (failure.empty()) failure = passed();
    size_t at = 0;  // of a rank's values in `out`
    for (size_t r = 0; failure.empty() && r < counts.size(); ++r) {
      const auto length = static_cast<size_t>(counts[r]);
      std::copy_n(pinned_ + r * each, part_of(length, first), out.data() + at + std::min(first, length));
      at += length;
    }
  }
  return failure;
}

std::string Communicator::sum(const DeviceSum& sum, int32_t& bad) {
  const std::lock_guard turn(turn_);
  const cuda::DeviceScope scope(context_->device());
  const cudaStream_t stream = context_->stream();
  bad = -1;
  std::string failure = begin();
  const auto count = static_cast<size_t>(sum.rows * sum.width);
  if (!failure.empty() || count == 0) return failure;
  auto* words =
      reinterpret_cast<int32_t*>(device_);  // [2] none yet: what would stop the writing, and the first bad row
  failure = issued(nccl_.AllReduce(sum.part, sum.part, count, kFloat32, kSum, comm_, stream));
  if (failure.empty()) failure = check(cudaMemsetAsync(words, 0xff, 2 * sizeof(int32_t), stream));
  const cuda::RowsWritten rows{sum.part, sum.width, sum.to, sum.rows, sum.width, nullptr, words, words + 1, 0, false};
  if (failure.empty()) failure = check(cuda::write_rows(rows, stream));
  if (failure.empty())
    failure = check(cudaMemcpyAsync(pinned_, words, 2 * sizeof(int32_t), cudaMemcpyDeviceToHost, stream));
  if (failure.empty()) failure = passed();
  if (failure.empty()) bad = reinterpret_cast<const int32_t*>(pinned_)[1];
  return failure;
}

// Once all ranks have come, NCCL ends what they share; otherwise it would wait for the others.
std::string Communicator::close(bool together) {
  const std::lock_guard turn(turn_);
  const cuda::DeviceScope scope(context_->device());
  if (own_ && comm_ != nullptr && together) {
    if (std::string failure = issued(nccl_.CommFinalize(comm_)); !failure.empty()) return failure;
    const Result result = nccl_.CommDestroy(std::exchange(comm_, nullptr));
    return result == kSuccess || result == kInProgress ? "" : of(result);
  }
  abort();
  return "";
}

void Communicator::wait(Milliseconds longest) const {
  const Patience patience;
  while (calls_ > 0 && patience.waited() < longest) patience.pause();
}

// Until NCCL has put on the stream, or done, what it was asked for. A communicator that blocks has by now.
std::string Communicator::issued(Result result) {
  const Patience patience;
  while (result == kInProgress) {
    if (const Result asked = nccl_.CommGetAsyncError(comm_, &result); asked != kSuccess) result = asked;
    if (result != kInProgress) break;
    if (std::string failure = waiting(); !failure.empty()) return fail(failure);
    if (patience.waited() > longest_) return fail(late());
    patience.pause();
  }
  return result == kSuccess ? "" : fail(of(result));
}

// Until the stream has passed what was put on it.
std::string Communicator::passed() {
  if (std::string failure = check(cudaEventRecord(event_, context_->stream())); !failure.empty()) return failure;
  const Patience patience;
  for (;;) {
    const cudaError_t error = cudaEventQuery(event_);
    if (error == cudaSuccess) return "";
    if (error != cudaErrorNotReady) return check(error);
    cudaGetLastError();  // "not ready" is an answer, not an error
    Result result = kSuccess;
    if (const Result asked = nccl_.CommGetAsyncError(comm_, &result); asked != kSuccess) result = asked;
    if (result != kSuccess && result != kInProgress) return fail(of(result));
    if (std::string failure = waiting(); !failure.empty()) return fail(failure);
    if (patience.waited() > longest_) return fail(late());
    patience.pause();
  }
}

std::string Communicator::waiting() const { return abandoned_ ? "that the wait was given up" : ""; }

std::string Communicator::late() const {
  return "that not all ranks came within " + std::to_string(longest_.count()) + " ms";
}

std::string Communicator::of(Result result) const {
  std::string text = nccl_.GetErrorString(result);
  const char* more = nccl_.GetLastError(comm_);
  return more == nullptr || *more == '\0' ? text : text + " (" + more + ")";
}

std::string Communicator::fail(std::string what) {
  stuck_ = true;
  abort();
  return what;
}

std::string Communicator::check(cudaError_t error) { return error == cudaSuccess ? "" : fail(cuda::describe(error)); }

// On a thread of its own: NCCL waits there for what other ranks of this machine do.
void Communicator::abort() {
  Comm comm = std::exchange(comm_, nullptr);
  if (comm == nullptr || !own_) return;
  std::thread([comm, end = nccl_.CommAbort, device = context_->device()] {
    const cuda::DeviceScope scope(device);
    end(comm);
  }).detach();
}

}  // namespace rlvr::nccl
