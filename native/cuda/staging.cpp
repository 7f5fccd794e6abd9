#include "cuda/staging.h"

namespace rlvr::cuda {

Staging::Staging() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }

Staging::~Staging() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (const Array& array : arrays_) cudaFree(array.device);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void Staging::check(cudaError_t error) {
  if (error_ == cudaSuccess) error_ = error;
}

void* Staging::reserve(Array array) {
  if (array.source == nullptr && array.destination == nullptr) return nullptr;
  if (error_ != cudaSuccess) return nullptr;
  // A device pointer stands for presence even where there is nothing to hold, so at least one element is taken.
  check(cudaMalloc(&array.device, static_cast<size_t>(array.bytes() > 0 ? array.bytes() : array.size)));
  if (error_ != cudaSuccess) return nullptr;
  arrays_.push_back(array);
  return array.device;
}

cudaError_t Staging::copy(void* to, int64_t to_stride, const void* from, int64_t from_stride, const Array& array,
                          cudaMemcpyKind kind) {
  if (array.bytes() == 0) return cudaSuccess;
  if (to_stride == array.width && from_stride == array.width)
    return cudaMemcpyAsync(to, from, static_cast<size_t>(array.bytes()), kind, stream_);
  return cudaMemcpy2DAsync(to, static_cast<size_t>(to_stride * array.size), from,
                           static_cast<size_t>(from_stride * array.size), static_cast<size_t>(array.width * array.size),
                           static_cast<size_t>(array.rows), kind, stream_);
}

void* Staging::upload(const Array& array) {
  void* device = reserve(array);
  if (device != nullptr) check(copy(device, array.width, array.source, array.stride, array, cudaMemcpyHostToDevice));
  return device;
}

void Staging::in_rows(const void*& array, int64_t rows, int64_t width, int64_t& stride, int64_t size) {
  array = upload({array, nullptr, rows, width, stride, size});
  stride = width;
}

void Staging::out_rows(void*& array, int64_t rows, int64_t width, int64_t& stride, int64_t size) {
  array = reserve({array, array, rows, width, stride, size});
  stride = width;
}

std::string Staging::finish() {
  for (const Array& array : arrays_) {
    if (error_ != cudaSuccess || array.destination == nullptr) continue;
    check(copy(array.destination, array.stride, array.device, array.width, array, cudaMemcpyDeviceToHost));
  }
  if (stream_ != nullptr) check(cudaStreamSynchronize(stream_));
  return error();
}

std::string Staging::error() const {
  if (error_ == cudaSuccess) return {};
  return std::string(cudaGetErrorName(error_)) + ": " + cudaGetErrorString(error_);
}

}  // namespace rlvr::cuda
