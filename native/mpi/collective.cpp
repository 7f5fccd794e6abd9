#include "mpi/collective.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "ranks/patience.h"

namespace rlvr::mpi {

std::shared_ptr<Collective> Collective::reduce(Library& library, Handle communicator, std::vector<double> values,
                                               bool maximum) {
  const std::shared_ptr<Collective> made(new Collective(library, std::move(values)));
  Collective& c = *made;
  c.result_.resize(c.values_.size());
  c.error_ = library.all_reduce(communicator, c.values_.data(), c.result_.data(), static_cast<int>(c.values_.size()),
                                maximum, c.request_);
  return made;
}

std::shared_ptr<Collective> Collective::gather(Library& library, Handle communicator, std::vector<double> values,
                                               std::vector<int> counts) {
  const std::shared_ptr<Collective> made(new Collective(library, std::move(values)));
  Collective& c = *made;
  c.counts_ = std::move(counts);
  c.offsets_.resize(c.counts_.size());
  std::exclusive_scan(c.counts_.begin(), c.counts_.end(), c.offsets_.begin(), 0);
  c.result_.resize(static_cast<size_t>(c.offsets_.back()) + static_cast<size_t>(c.counts_.back()));
  const int count = static_cast<int>(c.values_.size());
  const bool alike = std::all_of(c.counts_.begin(), c.counts_.end(), [&](int other) { return other == count; });
  c.error_ = alike ? library.all_gather(communicator, c.values_.data(), c.result_.data(), count, c.request_)
                   : library.all_gather(communicator, c.values_.data(), count, c.result_.data(), c.counts_.data(),
                                        c.offsets_.data(), c.request_);
  return made;
}

bool Collective::poll() {
  if (!done_ && error_ == 0) error_ = library_.test(request_, done_);
  return done_ || error_ != 0;
}

void Collective::wait() {
  const Patience patience;
  while (!poll()) patience.pause();
}

bool Collective::wait_briefly() {
  constexpr std::chrono::microseconds kBriefly{50};
  const Patience patience;
  while (!poll()) {
    if (patience.waited() > kBriefly) return false;
    patience.pause();
  }
  return true;
}

}  // namespace rlvr::mpi
