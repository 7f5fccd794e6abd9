#include "cuda/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/copy_rows.h"

namespace rlvr::cuda {
namespace {

constexpr int64_t kAlignment = 16;  // of a transfer

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

template <class Items>
int64_t aligned_total(const Items& items) {
  int64_t total = 0;
  for (const auto& item : items) total += aligned(item.bytes);
  return total;
}

}  // namespace

Session::Session(std::shared_ptr<DeviceContext> context) : context_(std::move(context)), completion_(*context_) {}

Session::~Session() {
  for (const Mirror& mirror : mirrors_) context_->release(mirror.device, mirror.bytes);
  if (results_ != nullptr) context_->give_back(results_);
}

cudaError_t Session::note(cudaError_t error) {
  if (error_ == cudaSuccess) error_ = error;
  return error_;
}

const Session::Mirror* Session::find(const void* host, int64_t bytes) const {
  const auto same = [&](const Mirror& mirror) {
    return mirror.host == host && (mirror.matrix.data != nullptr || bytes < 0 || mirror.bytes == bytes);
  };
  const auto found = std::find_if(mirrors_.begin(), mirrors_.end(), same);
  return found == mirrors_.end() ? nullptr : &*found;
}

void* Session::add(void* host, int64_t bytes, const HostMatrix& matrix) {
  void* device = nullptr;
  if (error_ != cudaSuccess || note(context_->allocate(device, bytes)) != cudaSuccess) return nullptr;
  mirrors_.push_back({host, bytes, matrix, device});
  return device;
}

void* Session::mirror(void* host, int64_t bytes, bool read) {
  // Arrays without elements may all be at one address (or none), and there is nothing to share.
  const Mirror* known = bytes == 0 ? nullptr : find(host, bytes);
  if (known != nullptr) return known->device;
  void* device = add(host, bytes, {});
  if (device != nullptr && read && bytes > 0) unsent_.push_back(mirrors_.back());
  return device;
}

void* Session::mirror(const HostMatrix& host) {
  const Mirror* known = host.data == nullptr ? nullptr : find(host.data, -1);
  if (known != nullptr) return known->device;
  return add(host.data, host.rows * host.width * host.size, host);
}

cudaError_t Session::copy(const Mirror& mirror, cudaMemcpyKind kind) {
  const HostMatrix& host = mirror.matrix;
  const PitchedRows ours{mirror.device, host.width * host.size};
  const PitchedRows theirs{host.data, host.stride * host.size};
  const bool down = kind == cudaMemcpyDeviceToHost;
  return copy_rows(*context_, down ? theirs : ours, down ? ours : theirs, ours.pitch, host.rows, kind);
}

cudaError_t Session::upload(const HostMatrix& host) {
  const DeviceScope scope(context_->device());
  const Mirror* known = find(host.data, -1);
  if (known == nullptr || note(context_->ready()) != cudaSuccess) return error_;
  return note(copy(*known, cudaMemcpyHostToDevice));
}

cudaError_t Session::transfer_all(const std::vector<Transfer>& items) {
  for (size_t first = 0; first < items.size(); first += kMaxTransfers) {
    Transfers some{};
    some.count = static_cast<int>(std::min<size_t>(kMaxTransfers, items.size() - first));
    std::copy_n(items.begin() + static_cast<int64_t>(first), some.count, some.items);
    if (note(transfer(some, context_->stream())) != cudaSuccess) break;
  }
  return error_;
}

cudaError_t Session::send() {
  if (error_ != cudaSuccess || unsent_.empty()) return error_;
  PinnedBlock* block = nullptr;
  if (note(context_->take_pinned(block, aligned_total(unsent_))) != cudaSuccess) return error_;
  std::vector<Transfer> items;
  int64_t offset = 0;
  for (const Mirror& mirror : unsent_) {
    void* staged = static_cast<char*>(block->data) + offset;
    std::memcpy(staged, mirror.host, static_cast<size_t>(mirror.bytes));
    items.push_back({mirror.device, staged, mirror.bytes});
    offset += aligned(mirror.bytes);
  }
  unsent_.clear();
  transfer_all(items);
  return note(context_->give_back(block));
}

void Session::request(void* host, int64_t bytes) {
  const Mirror* known = bytes == 0 ? nullptr : find(host, bytes);
  if (known != nullptr) requested_.push_back(*known);
}

cudaError_t Session::collect() {
  const DeviceScope scope(context_->device());
  note(context_->ready());
  std::vector<Transfer> items;
  int64_t offset = 0;
  for (const Mirror& mirror : requested_) {
    if (mirror.matrix.data != nullptr) continue;
    deliveries_.push_back({mirror.host, mirror.bytes, offset});
    offset += aligned(mirror.bytes);
  }
  if (error_ == cudaSuccess && offset > 0 && note(context_->take_pinned(results_, offset)) == cudaSuccess) {
    size_t next = 0;
    for (const Mirror& mirror : requested_) {
      if (mirror.matrix.data != nullptr) continue;
      items.push_back({static_cast<char*>(results_->data) + deliveries_[next++].offset, mirror.device, mirror.bytes});
    }
    transfer_all(items);
  }
  if (error_ == cudaSuccess) note(completion_.mark());
  return error_;
}

cudaError_t Session::wait() {
  const DeviceScope scope(context_->device());
  bool matrices = false;
  for (const Mirror& mirror : requested_) {
    if (error_ != cudaSuccess || mirror.matrix.data == nullptr) continue;
    matrices = true;
    if (note(context_->ready()) != cudaSuccess) break;
    note(copy(mirror, cudaMemcpyDeviceToHost));
  }
  if (matrices && error_ == cudaSuccess) note(completion_.mark());
  if (error_ == cudaSuccess) note(completion_.wait());
  return error_;
}

void Session::deliver() {
  for (const Delivery& delivery : deliveries_) {
    if (error_ != cudaSuccess) break;
    std::memcpy(delivery.host, static_cast<char*>(results_->data) + delivery.offset,
                static_cast<size_t>(delivery.bytes));
  }
  deliveries_.clear();
  requested_.clear();
  if (results_ != nullptr && error_ == cudaSuccess) context_->give_back_idle(results_);
  if (results_ != nullptr && error_ != cudaSuccess) context_->give_back(results_);
  results_ = nullptr;
}

}  // namespace rlvr::cuda
