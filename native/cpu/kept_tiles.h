// Where the forward pass of linear-log-probs leaves tiles of logits, and the backward pass finds them: tiles one after the
// other, and so the rows of a tile.
#pragma once

#include <cstdint>

namespace rlvr {

template <class Float>
class KeptTiles {
 public:
  // None: there are no rows, or no data.
  KeptTiles() = default;

  // Of tiles of `columns` out of `vocab`, as many whole ones as fit; `length` is that of data.
  KeptTiles(Float* data, int64_t length, int64_t rows, int64_t columns, int64_t vocab) : data_(data), rows_(rows) {
    const int64_t fit = length / rows;
    columns_ = fit >= vocab ? vocab : fit / columns * columns;
  }

  // Whether the tile that begins with this column is there.
  bool hold(int64_t begin) const { return begin < columns_; }

  // Of columns [begin, begin + count), a tile that is there.
  Float* row(int64_t begin, int64_t count, int64_t r) const { return data_ + rows_ * begin + r * count; }

 private:
  Float* data_ = nullptr;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
};

}  // namespace rlvr
