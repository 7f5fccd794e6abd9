// Reads an op's arguments from a JS object of typed arrays and numbers into its plain struct. The TypeScript
// facade has already validated them for the user; the checks here keep a wrong call from touching memory it
// must not: every array is checked for type and length before an op sees its pointer.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <type_traits>

#include "ops/common.h"

namespace rlvr::binding {

// A [rows, width] array of `dtype`: row r at element r * stride.
struct Matrix {
  DType dtype;
  int64_t rows;
  int64_t width;
  int64_t stride;
  int64_t element_size() const { return dtype == DType::kF32 ? 4 : 2; }
  int64_t elements() const { return rows == 0 ? 0 : (rows - 1) * stride + width; }
};

// Places the arrays of an op somewhere other than in host memory.
class Placement {
 public:
  virtual ~Placement() = default;
  // Null for an array that has no place.
  virtual void* array(void* host, int64_t bytes, bool read) = 0;
  // Memory of an op's own, the first `zeros` bytes of it 0, known by one of its arrays and its size.
  virtual void* scratch(const void* host, int64_t bytes, int64_t zeros) = 0;
  // For a matrix in host memory; `shape.stride` becomes that of the place.
  virtual void* matrix(void* host, Matrix& shape) = 0;
  // For a matrix that is not in host memory; null and `expected` when it is not one, or is too small.
  virtual void* matrix(const Napi::Value& value, const Matrix& shape, const char*& expected) = 0;
};

class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info, size_t index = 0, Placement* placement = nullptr)
      : env_(info.Env()), placement_(placement) {
    if (info.Length() > index && info[index].IsObject()) {
      object_ = info[index].As<Napi::Object>();
    } else {
      fail("arguments", "an object");
    }
  }
  Arguments(Napi::Env env, Napi::Object object, Placement* placement)
      : env_(env), placement_(placement), object_(object) {}

  bool ok() const { return ok_; }
  Napi::Object object() const { return object_; }

  double number(const char* name) {
    const Napi::Value value = get(name);
    if (!value.IsNumber()) return fail(name, "a number"), 0;
    return value.As<Napi::Number>().DoubleValue();
  }

  // A count or an enum value: a whole number in [0, limit].
  int64_t integer(const char* name, int64_t limit = int64_t{1} << 52) {
    const double value = number(name);
    if (!(value >= 0 && value <= static_cast<double>(limit)) ||
        value != static_cast<double>(static_cast<int64_t>(value)))
      return fail(name, "a whole number in range"), 0;
    return static_cast<int64_t>(value);
  }

  bool boolean(const char* name) {
    const Napi::Value value = get(name);
    if (!value.IsBoolean()) return fail(name, "a boolean"), false;
    return value.As<Napi::Boolean>().Value();
  }

  // At least `length` elements, to read (T const) or to write.
  template <class T>
  T* array(const char* name, int64_t length) {
    return placed<T>(name, get(name), length, std::is_const_v<T>);
  }

  // As array(), to read and write.
  template <class T>
  T* in_out(const char* name, int64_t length) {
    return placed<T>(name, get(name), length, true);
  }

  // As array(), in host memory whatever the placement.
  template <class T>
  T* host_array(const char* name, int64_t length) {
    return typed<T>(name, get(name), length).data;
  }

  template <class T>
  T* optional_host_array(const char* name, int64_t length) {
    const Napi::Value value = get(name);
    return value.IsUndefined() ? nullptr : typed<T>(name, value, length).data;
  }

  // As array(); null when the property is undefined, and only then: an array without elements may have no memory.
  template <class T>
  T* optional_array(const char* name, int64_t length) {
    const Napi::Value value = get(name);
    if (value.IsUndefined()) return nullptr;
    static std::remove_const_t<T> empty{};
    T* data = placed<T>(name, value, length, std::is_const_v<T>);
    return data == nullptr && placement_ == nullptr ? &empty : data;
  }

  // As optional_array(), of any length, which `length` becomes.
  template <class T>
  T* optional_whole_array(const char* name, int64_t& length) {
    length = 0;
    const Napi::Value value = get(name);
    if (value.IsUndefined()) return nullptr;
    static std::remove_const_t<T> empty{};
    const Typed<T> host = typed<T>(name, value, 0);
    length = host.bytes / static_cast<int64_t>(sizeof(T));
    return host.data == nullptr ? &empty : host.data;
  }

  // Whether arrays are placed elsewhere than in host memory.
  bool is_placed() const { return placement_ != nullptr; }

  // Memory of the op's own, where its arrays are placed; null in host memory. `name` is an array that no other op has such
  // memory for, unless it is to be the same.
  template <class T = uint8_t>
  void* scratch(const char* name, int64_t bytes, int64_t zeros) {
    if (placement_ == nullptr || bytes == 0) return nullptr;
    const void* host = typed<T>(name, get(name), 0).data;
    return ok_ ? placement_->scratch(host, bytes, zeros) : nullptr;
  }

  // `stride` becomes that of the place it is read from.
  void* matrix(const char* name, DType dtype, int64_t rows, int64_t width, int64_t& stride) {
    if (stride < width) return fail(name, "a row stride of at least the row's width"), nullptr;
    const int64_t limit = int64_t{1} << 52;
    if (rows > 0 && stride > limit / rows) return fail(name, "a smaller shape"), nullptr;
    Matrix shape{dtype, rows, width, stride};
    const Napi::Value value = get(name);
    if (placement_ != nullptr && ok_ && !value.IsTypedArray()) {
      const char* expected = "";
      void* place = placement_->matrix(value, shape, expected);
      if (place == nullptr) fail(name, expected);
      return place;
    }
    void* host = dtype == DType::kF32 ? static_cast<void*>(typed<float>(name, value, shape.elements()).data)
                                      : static_cast<void*>(typed<uint16_t>(name, value, shape.elements()).data);
    if (placement_ == nullptr || !ok_) return host;
    void* place = placement_->matrix(host, shape);
    stride = shape.stride;
    return place;
  }

  // Calls read(arguments) with those of an object in this one; not if the property is undefined.
  template <class Read>
  void within(const char* name, Read read) {
    const Napi::Value value = get(name);
    if (!ok_ || value.IsUndefined()) return;
    if (!value.IsObject()) return fail(name, "an object");
    Arguments inner(env_, value.As<Napi::Object>(), placement_);
    read(inner);
    ok_ = inner.ok_;
  }

  // Throws the first failure; later calls do nothing.
  void fail(const char* name, const char* expected) {
    if (!ok_) return;
    ok_ = false;
    if (env_.IsExceptionPending()) return;
    Napi::TypeError::New(env_, std::string("rlvr-kernels native call: ") + name + ": expected " + expected)
        .ThrowAsJavaScriptException();
  }

  // Ops with a placement do not poll it.
  CancelFlag cancel_flag() {
    const Napi::Value value = get("cancel");
    return placement_ != nullptr || value.IsUndefined() ? nullptr : typed<int32_t>("cancel", value, 1).data;
  }

 private:
  template <class T>
  static constexpr napi_typedarray_type array_type() {
    if constexpr (std::is_same_v<T, float>)
      return napi_float32_array;
    else if constexpr (std::is_same_v<T, double>)
      return napi_float64_array;
    else if constexpr (std::is_same_v<T, int32_t>)
      return napi_int32_array;
    else if constexpr (std::is_same_v<T, uint16_t>)
      return napi_uint16_array;
    else
      return napi_uint8_array;
  }

  Napi::Value get(const char* name) {
    if (!ok_) return env_.Undefined();
    napi_value value = nullptr;
    if (napi_get_named_property(env_, object_, name, &value) != napi_ok)
      return fail(name, "a readable property"), env_.Undefined();
    return Napi::Value(env_, value);
  }

  template <class T>
  struct Typed {
    T* data = nullptr;
    int64_t bytes = 0;  // of the whole array
  };

  template <class T>
  T* placed(const char* name, const Napi::Value& value, int64_t length, bool read) {
    const Typed<T> host = typed<T>(name, value, length);
    if (placement_ == nullptr || !ok_) return host.data;
    void* place = placement_->array(const_cast<std::remove_const_t<T>*>(host.data), host.bytes, read);
    if (place == nullptr) fail(name, "the array that it was");
    return static_cast<T*>(place);
  }

  template <class T>
  Typed<T> typed(const char* name, const Napi::Value& value, int64_t length) {
    using Element = std::remove_const_t<T>;
    napi_typedarray_type type = napi_int8_array;
    size_t actual = 0;
    void* data = nullptr;
    const bool is_array = ok_ && value.IsTypedArray() &&
                          napi_get_typedarray_info(env_, value, &type, &actual, &data, nullptr, nullptr) == napi_ok;
    if (!is_array || type != array_type<Element>()) return fail(name, "a typed array of another type"), Typed<T>{};
    if (actual < static_cast<size_t>(length)) return fail(name, "a longer array"), Typed<T>{};
    return {static_cast<T*>(data), static_cast<int64_t>(actual * sizeof(Element))};
  }

  Napi::Env env_;
  Placement* placement_;
  Napi::Object object_;
  bool ok_ = true;
};

}  // namespace rlvr::binding
