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

class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : env_(info.Env()) {
    if (info.Length() > 0 && info[0].IsObject()) {
      object_ = info[0].As<Napi::Object>();
    } else {
      fail("arguments", "an object");
    }
  }

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

  // At least `length` elements.
  template <class T>
  T* array(const char* name, int64_t length) {
    return typed<T>(name, get(name), length);
  }

  // As array(); null when the property is undefined.
  template <class T>
  T* optional_array(const char* name, int64_t length) {
    const Napi::Value value = get(name);
    return value.IsUndefined() ? nullptr : typed<T>(name, value, length);
  }

  // A [rows, width] array of `dtype`: row r at element r * stride.
  void* matrix(const char* name, DType dtype, int64_t rows, int64_t width, int64_t stride) {
    if (stride < width) return fail(name, "a row stride of at least the row's width"), nullptr;
    const int64_t limit = int64_t{1} << 52;
    if (rows > 0 && stride > limit / rows) return fail(name, "a smaller shape"), nullptr;
    const int64_t length = rows == 0 ? 0 : (rows - 1) * stride + width;
    if (dtype == DType::kF32) return array<float>(name, length);
    return array<uint16_t>(name, length);
  }

  // Throws the first failure; later calls do nothing.
  void fail(const char* name, const char* expected) {
    if (!ok_) return;
    ok_ = false;
    if (env_.IsExceptionPending()) return;
    Napi::TypeError::New(env_, std::string("rlvr-kernels native call: ") + name + ": expected " + expected)
        .ThrowAsJavaScriptException();
  }

  CancelFlag cancel_flag() { return optional_array<int32_t>("cancel", 1); }

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
  T* typed(const char* name, const Napi::Value& value, int64_t length) {
    using Element = std::remove_const_t<T>;
    napi_typedarray_type type = napi_int8_array;
    size_t actual = 0;
    void* data = nullptr;
    const bool is_array = ok_ && value.IsTypedArray() &&
                          napi_get_typedarray_info(env_, value, &type, &actual, &data, nullptr, nullptr) == napi_ok;
    if (!is_array || type != array_type<Element>()) return fail(name, "a typed array of another type"), nullptr;
    if (actual < static_cast<size_t>(length)) return fail(name, "a longer array"), nullptr;
    return static_cast<T*>(data);
  }

  Napi::Env env_;
  Napi::Object object_;
  bool ok_ = true;
};

}  // namespace rlvr::binding
