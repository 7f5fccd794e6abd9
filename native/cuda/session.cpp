#include "cuda/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/copy_rows.h"

namespace rlvr::cuda {
namespace {

constexpr int64_t kTransferAlignment = 16;
constexpr int64_t kPieceAlignment = 256;  // that of an allocation

int64_t aligned(int64_t bytes) { return (bytes + kTransferAlignment - 1) / kTransferAlignment * kTransferAlignment; }

// What an array takes of an arena: never all of it, so that the emulation can watch over the gap behind it.
int64_t room_for(int64_t bytes) { return (bytes / kPieceAlignment + 1) * kPieceAlignment; }

}  // namespace

Session::Session(std::shared_ptr<DeviceContext> context)
    : context_(std::move(context)), queue_(*context_), completion_(*context_) {}

Session::~Session() {
  for (const Piece& piece : pieces_) context_->release(piece.memory, piece.bytes);
  if (results_ != nullptr) context_->give_back(results_);
}

cudaError_t Session::note(cudaError_t error) {
  if (error_ == cudaSuccess) error_ = error;
  return error_;
}

const Session::Mirror* Session::find(const void* host, int64_t bytes) const {
  const auto same = [&](const Mirror& mirror) {
    return mirror.host == host && (mirror.matrix.data != nullptr || mirror.bytes == bytes);
  };
  const auto found = std::find_if(mirrors_.begin(), mirrors_.end(), same);
  return found == mirrors_.end() ? nullptr : &*found;
}

// By its shape too: matrices may begin at the same address.
const Session::Mirror* Session::find_matrix(const HostMatrix& host) const {
  const auto same = [&](const Mirror& mirror) { return mirror.matrix.data != nullptr && mirror.matrix == host; };
  const auto found = std::find_if(mirrors_.begin(), mirrors_.end(), same);
  return found == mirrors_.end() ? nullptr : &*found;
}

void* Session::take(int64_t bytes) {
  void* device = nullptr;
  if (error_ != cudaSuccess || note(context_->allocate(device, bytes)) != cudaSuccess) return nullptr;
  pieces_.push_back({device, bytes});
  return device;
}

void Session::announce(const void* host, int64_t bytes, bool read) {
  // Arrays without elements may all be at one address (or none), and there is nothing to share.
  if (bytes == 0 || find(host, bytes) != nullptr) return;
  mirrors_.push_back({host, bytes, {}, read, 0, nullptr});
}

void Session::announce_scratch(const void* host, int64_t bytes, int64_t zeros) {
  if (find(host, bytes) == nullptr) mirrors_.push_back({host, bytes, {}, false, zeros, nullptr});
}

void* Session::mirror(const void* host, int64_t bytes) const {
  static char nothing = 0;
  if (bytes == 0) return &nothing;  // not read, not written
  const Mirror* known = find(host, bytes);
  return known == nullptr ? nullptr : known->device;
}

void* Session::mirror(const HostMatrix& host) {
  const int64_t bytes = host.rows * host.width * host.size;
  if (bytes == 0) return mirror(host.data, 0);
  if (const Mirror* known = find_matrix(host); known != nullptr) return known->device;
  void* device = take(bytes);
  if (device != nullptr) mirrors_.insert(mirrors_.begin(), {host.data, bytes, host, false, 0, device});
  if (device != nullptr) ++placed_;
  return device;
}

cudaError_t Session::place() {
  if (error_ != cudaSuccess || placed_ == mirrors_.size()) return error_;
  if (note(context_->ready()) != cudaSuccess) return error_;
  const DeviceScope scope(context_->device());
  const size_t first = std::exchange(placed_, mirrors_.size());
  int64_t total = 0;
  for (size_t i = first; i < placed_; ++i) total += room_for(mirrors_[i].bytes);
  auto* arena = static_cast<char*>(take(total));
  if (arena == nullptr) return error_;
  for (size_t i = first; i < placed_; ++i) {
    Mirror& mirror = mirrors_[i];
    mirror.device = arena;
    arena += room_for(mirror.bytes);
    watch_gap(static_cast<char*>(mirror.device) + mirror.bytes, room_for(mirror.bytes) - mirror.bytes);
  }
  return send(first);
}

// Uploads what is read of the mirrors from number `first` on, and the zeros.
cudaError_t Session::send(size_t first) {
  int64_t total = 0;
  for (size_t i = first; i < placed_; ++i) total += mirrors_[i].read ? aligned(mirrors_[i].bytes) : 0;
  PinnedBlock* block = nullptr;
  if (total > 0 && note(context_->take_pinned(block, total)) != cudaSuccess) return error_;
  std::vector<Transfer> items;
  char* staged = block == nullptr ? nullptr : static_cast<char*>(block->data);
  for (size_t i = first; i < placed_; ++i) {
    const Mirror& mirror = mirrors_[i];
    if (mirror.zeros > 0) items.push_back({mirror.device, nullptr, mirror.zeros});
    if (!mirror.read) continue;
    std::memcpy(staged, mirror.host, static_cast<size_t>(mirror.bytes));
    items.push_back({mirror.device, staged, mirror.bytes});
    staged += aligned(mirror.bytes);
  }
  transfer_all(items);
  return block == nullptr ? error_ : note(context_->give_back(block));
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
  const Mirror* known = find_matrix(host);
  if (known == nullptr || note(context_->ready()) != cudaSuccess) return error_;
  return note(copy(*known, cudaMemcpyHostToDevice));
}

cudaError_t Session::flush() {
  const DeviceScope scope(context_->device());
  note(context_->ready());
  if (error_ == cudaSuccess) note(queue_.flush());
  return error_;
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

void Session::request(void* host, int64_t bytes) {
  const Mirror* known = bytes == 0 ? nullptr : find(host, bytes);
  if (known != nullptr && known->device != nullptr) requested_.push_back(*known);
}

cudaError_t Session::collect() {
  const DeviceScope scope(context_->device());
  note(context_->ready());
  std::vector<Transfer> items;
  int64_t offset = 0;
  for (const Mirror& mirror : requested_) {
    if (mirror.matrix.data != nullptr) continue;
    deliveries_.push_back({const_cast<void*>(mirror.host), mirror.bytes, offset});
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
