// Instructions that the lanes of a warp execute together, where CUDA's own functions say less than PTX.
#pragma once

#include <cstdint>
#include <utility>

#include "emulation/cuda_emulation.h"

namespace rlvr::ptx {

using emulation::detail::Location;

inline unsigned lane_index() { return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32; }

// The lane that shfl.sync reads, and whether it lies inside the segment. `c` has the segment's mask in its bits 8 to 12
// and the clamp in the low five.
struct Segment {
  int lane;
  int first;
  int last;
  unsigned mask;
  explicit Segment(uint32_t c) : lane(static_cast<int>(lane_index())), mask(c >> 8 & 31u) {
    const auto own = static_cast<unsigned>(lane);
    first = static_cast<int>(own & mask);
    last = static_cast<int>((own & mask) | (c & 31u & ~mask));
  }
};

inline std::pair<uint32_t, bool> read_lane(uint32_t value, int source, bool inside, int lane, uint32_t members,
                                           const Location& where) {
  return {__shfl_sync(members, value, inside ? source : lane, 32, where), inside};
}

#define RLVR_PTX_SHUFFLE(NAME, SOURCE, INSIDE)                                                            \
  inline std::pair<uint32_t, bool> shfl_##NAME(uint32_t value, uint32_t b, uint32_t c, uint32_t members,  \
                                               const Location& where = Location::current()) {             \
    const Segment segment(c);                                                                             \
    const auto distance = static_cast<int>(b & 31u);                                                      \
    const int source = SOURCE;                                                                            \
    return read_lane(value, source, INSIDE, segment.lane, members, where);                                \
  }
RLVR_PTX_SHUFFLE(up, segment.lane - distance, source >= segment.last)
RLVR_PTX_SHUFFLE(down, segment.lane + distance, source <= segment.last)
RLVR_PTX_SHUFFLE(bfly, segment.lane ^ distance, source <= segment.last)
RLVR_PTX_SHUFFLE(idx, segment.first | (distance & ~static_cast<int>(segment.mask)), source <= segment.last)
#undef RLVR_PTX_SHUFFLE

// What all lanes of `members` bring, one after the other, this one's included.
template <class T, class F>
void for_each_lane(T value, uint32_t members, const Location& where, F use) {
  for (uint32_t rest = members; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    use(lane, __shfl_sync(members, value, lane, 32, where));
  }
}
template <class T, class F>
T redux(T value, uint32_t members, F combine, const Location& where = Location::current()) {
  T result{};
  bool any = false;
  for_each_lane(value, members, where, [&](int, T other) {
    result = any ? combine(result, other) : other;
    any = true;
  });
  return result;
}
template <class T>
uint32_t match_any(T value, uint32_t members, const Location& where = Location::current()) {
  uint32_t same = 0;
  for_each_lane(value, members, where, [&](int lane, T other) { same |= uint32_t{other == value} << lane; });
  return same;
}
inline bool vote_uni(bool value, uint32_t members, const Location& where = Location::current()) {
  const unsigned votes = __ballot_sync(members, value, where);
  return votes == 0 || votes == members;
}

}  // namespace rlvr::ptx
