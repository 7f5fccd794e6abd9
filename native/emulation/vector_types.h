// CUDA's built-in vector types, aligned as on the device: a misaligned vector access is a UBSan error.
#pragma once

#define RLVR_EMULATION_VECTOR2(NAME, T, ALIGN) \
  struct alignas(ALIGN) NAME {                 \
    T x, y;                                    \
  };                                           \
  inline NAME make_##NAME(T x, T y) { return {x, y}; }
#define RLVR_EMULATION_VECTOR3(NAME, T) \
  struct NAME {                         \
    T x, y, z;                          \
  };                                    \
  inline NAME make_##NAME(T x, T y, T z) { return {x, y, z}; }
#define RLVR_EMULATION_VECTOR4(NAME, T, ALIGN) \
  struct alignas(ALIGN) NAME {                 \
    T x, y, z, w;                              \
  };                                           \
  inline NAME make_##NAME(T x, T y, T z, T w) { return {x, y, z, w}; }

RLVR_EMULATION_VECTOR2(uchar2, unsigned char, 2)
RLVR_EMULATION_VECTOR2(short2, short, 4)
RLVR_EMULATION_VECTOR2(ushort2, unsigned short, 4)
RLVR_EMULATION_VECTOR2(int2, int, 8)
RLVR_EMULATION_VECTOR2(uint2, unsigned, 8)
RLVR_EMULATION_VECTOR2(float2, float, 8)
RLVR_EMULATION_VECTOR2(double2, double, 16)
RLVR_EMULATION_VECTOR2(longlong2, long long, 16)
RLVR_EMULATION_VECTOR2(ulonglong2, unsigned long long, 16)
RLVR_EMULATION_VECTOR3(int3, int)
RLVR_EMULATION_VECTOR3(uint3, unsigned)
RLVR_EMULATION_VECTOR3(float3, float)
RLVR_EMULATION_VECTOR4(uchar4, unsigned char, 4)
RLVR_EMULATION_VECTOR4(ushort4, unsigned short, 8)
RLVR_EMULATION_VECTOR4(int4, int, 16)
RLVR_EMULATION_VECTOR4(uint4, unsigned, 16)
RLVR_EMULATION_VECTOR4(float4, float, 16)

#undef RLVR_EMULATION_VECTOR2
#undef RLVR_EMULATION_VECTOR3
#undef RLVR_EMULATION_VECTOR4

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
