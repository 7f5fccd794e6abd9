// Device copies of host arrays for the length of one op. Arrays are replaced in the op's struct by their device twins;
// outputs come back in finish(). The first error is kept and makes the rest do nothing.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/runtime.h"

namespace rlvr::cuda {

class Staging {
 public:
  Staging();
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  cudaStream_t stream() const { return stream_; }

  // `count` elements to read; a null array stays null.
  template <class T>
  void in(const T*& array, int64_t count) {
    array = static_cast<const T*>(upload({array, nullptr, 1, count, count, sizeof(T)}));
  }

  // `count` elements to write.
  template <class T>
  void out(T*& array, int64_t count) {
    array = static_cast<T*>(reserve({array, array, 1, count, count, sizeof(T)}));
  }

  // `count` elements to read and write.
  template <class T>
  void in_out(T*& array, int64_t count) {
    array = static_cast<T*>(upload({array, array, 1, count, count, sizeof(T)}));
  }

  // A [rows, width] array of elements of `size` bytes, row r at element r * stride. The device copy is contiguous, so
  // padding between rows is neither read nor written; `stride` becomes the copy's.
  void in_rows(const void*& array, int64_t rows, int64_t width, int64_t& stride, int64_t size);
  void out_rows(void*& array, int64_t rows, int64_t width, int64_t& stride, int64_t size);

  // Notes the result of a call.
  void check(cudaError_t error);

  // Empty when everything so far went well, else what did not.
  std::string error() const;

  // Downloads the outputs, waits, and returns error().
  std::string finish();

 private:
  struct Array {
    const void* source;
    void* destination;  // null: not downloaded
    int64_t rows;
    int64_t width;   // elements
    int64_t stride;  // elements, on the host
    int64_t size;    // bytes of an element
    void* device = nullptr;
    int64_t bytes() const { return rows * width * size; }
  };

  void* reserve(Array array);
  void* upload(const Array& array);
  cudaError_t copy(void* to, int64_t to_stride, const void* from, int64_t from_stride, const Array& array,
                   cudaMemcpyKind kind);

  cudaStream_t stream_ = nullptr;
  cudaError_t error_ = cudaSuccess;
  std::vector<Array> arrays_;
};

}  // namespace rlvr::cuda
